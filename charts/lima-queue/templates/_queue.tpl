{{/*
An amount times a number of nodes: `5120Mi` and 4 give `20480Mi`.

  {{ include "lima-queue.times" (dict "amount" "5120Mi" "count" 4) }}
*/}}
{{- define "lima-queue.times" -}}
{{- $number := regexFind "^[0-9]+" (toString .amount) -}}
{{- if not (regexMatch "^[0-9]+[A-Za-z]*$" (toString .amount)) -}}
  {{- fail (printf "cluster.gpu.fabric: %q is not a whole amount such as 32 or 5120Mi" .amount) -}}
{{- end -}}
{{- printf "%d%s" (mul $number .count) (trimPrefix $number (toString .amount)) -}}
{{- end -}}

{{/*
Tolerations without what is empty.

  tolerations: {{- include "lima-queue.tolerations" .Values.cluster.gpu.tolerations | nindent 4 }}
*/}}
{{- define "lima-queue.tolerations" -}}
{{- range . }}
- operator: {{ .operator | default "Exists" }}
  {{- with .key }}
  key: {{ . | quote }}
  {{- end }}
  {{- with .value }}
  value: {{ . | quote }}
  {{- end }}
  {{- with .effect }}
  effect: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/*
Those who may submit, as subjects of a RoleBinding.

  subjects: {{- include "lima-queue.subjects" .Values.queue.submitters | nindent 2 }}
*/}}
{{- define "lima-queue.subjects" -}}
{{- range .users }}
- {kind: User, name: {{ . | quote }}, apiGroup: rbac.authorization.k8s.io}
{{- end }}
{{- range .groups }}
- {kind: Group, name: {{ . | quote }}, apiGroup: rbac.authorization.k8s.io}
{{- end }}
{{- range .serviceAccounts }}
{{- $parts := splitList "/" . }}
{{- if ne (len $parts) 2 }}
  {{- fail (printf "queue.submitters.serviceAccounts: %q is not NAMESPACE/NAME" .) }}
{{- end }}
- {kind: ServiceAccount, namespace: {{ index $parts 0 | quote }}, name: {{ index $parts 1 | quote }}}
{{- end }}
{{- end -}}

{{/*
Spec of a ResourceFlavor: the nodes that it stands for. Kueue puts labels and tolerations on pods.

  spec: {{- include "lima-queue.flavor" (dict "nodes" .Values.cluster.gpu "topology" "lima") | nindent 2 }}
*/}}
{{- define "lima-queue.flavor" -}}
nodeLabels: {{- toYaml .nodes.nodeLabels | nindent 2 }}
{{- with .nodes.tolerations }}
tolerations: {{- include "lima-queue.tolerations" . | nindent 2 }}
{{- end }}
{{- with .topology }}
topologyName: {{ . }}
{{- end }}
{{- end -}}
