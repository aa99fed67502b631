{{/*
Labels by which everything of a release is found.

  labels: {{- include "lima-common.labels" (dict "root" $ "kind" "train") | nindent 4 }}
*/}}
{{- define "lima-common.labels" -}}
app.kubernetes.io/name: {{ .root.Chart.Name | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/part-of: lima-k8s
app.kubernetes.io/managed-by: {{ .root.Release.Service | quote }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- with .kind }}
lima-k8s.io/kind: {{ . }}
{{- end }}
{{- end -}}

{{/*
Labels of one run: on its RayJob, its ConfigMap and its pods.

  labels: {{- include "lima-common.runLabels" $scope | nindent 4 }}
*/}}
{{- define "lima-common.runLabels" -}}
{{ include "lima-common.labels" . }}
lima-k8s.io/run: {{ .name }}
{{- end -}}

{{/*
Labels of a pod: those that the cluster asks of pods, and ours, by which the pod is found.

  labels: {{- include "lima-common.podLabels" (dict "cluster" .Values.cluster "ours" (include "lima-common.runLabels" $scope)) | nindent 4 }}
*/}}
{{- define "lima-common.podLabels" -}}
{{- merge (fromYaml .ours) (.cluster.podLabels | default dict) | toYaml -}}
{{- end -}}

{{/*
What a run is, in full: label values allow neither Unicode nor a URI.

  annotations: {{- include "lima-common.runAnnotations" $scope | nindent 4 }}
*/}}
{{- define "lima-common.runAnnotations" -}}
lima-k8s.io/experiment: {{ .run.experiment | quote }}
lima-k8s.io/arm: {{ .run.arm | quote }}
lima-k8s.io/seed: {{ printf "%d" (int64 .run.seed) | quote }}
lima-k8s.io/storage: {{ include "lima-common.storageUri" .cluster | quote }}
{{- end -}}
