{{/*
`helm test`: write, list, read and refuse to overwrite, as the runs will, from a pod with their
identity.

  {{ include "lima-common.storageTest" (dict "root" $ "kind" "train") }}
*/}}
{{- define "lima-common.storageTest" -}}
{{- include "lima-common.check" .root -}}
{{- $cluster := .root.Values.cluster -}}
{{- $device := "cpu" -}}
{{- range .stages -}}
  {{- with index (first $.root.Values.runs) . -}}
    {{- $cuda := eq (dig "compute" "device" "cpu" .) "cuda" -}}
    {{- if and $cuda (not (include "lima-common.baseline" .)) }}{{ $device = "cuda" }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- $text := include "lima-common.storageTestPod" (merge (dict "device" $device) .) -}}
{{- $named := printf "name: %s-storage\nnamespace: %q" .root.Release.Name .root.Release.Namespace -}}
{{- /* Helm takes its log before it deletes it. One that failed stays to be looked at, until the
       runs are cancelled. */ -}}
{{- $hook := "helm.sh/hook: test\nhelm.sh/hook-delete-policy: before-hook-creation,hook-succeeded" -}}
apiVersion: v1
kind: Pod
{{ include "lima-common.finished" (dict "pod" $text "role" "none" "container" "storagecheck" "cluster" $cluster "annotations" $hook "named" $named) }}
{{- end -}}

{{/*
That pod, before the cluster's `pods` are put in.

  {{ include "lima-common.storageTestPod" (dict "root" $ "device" "cpu") }}
*/}}
{{- define "lima-common.storageTestPod" -}}
{{- $cluster := .root.Values.cluster -}}
metadata:
  labels: {{- include "lima-common.podLabels" (dict "cluster" $cluster "ours" (include "lima-common.labels" .)) | nindent 4 }}
spec:
  {{- include "lima-common.podBase" (dict "cluster" $cluster) | nindent 2 }}
  restartPolicy: Never
  activeDeadlineSeconds: 600
  containers:
    - name: storagecheck
      image: {{ include "lima-common.image" (dict "cluster" $cluster "device" .device) }}
      imagePullPolicy: {{ $cluster.image.pullPolicy }}
      terminationMessagePolicy: FallbackToLogsOnError
      command: [python, -m, lima_jobs.storagecheck, {{ include "lima-common.storageUri" $cluster | quote }}]
      securityContext: {{- include "lima-common.containerSecurity" . | nindent 8 }}
      resources: {{- include "lima-common.resources" (dict "size" $cluster.submitter "count" 1 "extra" dict "cache" $cluster.cache.sizeGiB) | nindent 8 }}
      env: {{- include "lima-common.env" (dict "cluster" $cluster) | nindent 8 }}
      {{- with include "lima-common.envFrom" $cluster }}
      envFrom: {{- . | nindent 8 }}
      {{- end }}
      volumeMounts: {{- include "lima-common.volumeMounts" dict | nindent 8 }}
  volumes: {{- include "lima-common.volumes" (dict "cluster" $cluster) | nindent 4 }}
{{- end -}}
