{{/*
The spec of a run, as `python -m lima_jobs.run` reads it. It passes through as JSON: Helm would
write a large integer as a float.

  {{ include "lima-common.configMap" $scope }}
*/}}
{{- define "lima-common.configMap" -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace | quote }}
  labels: {{- include "lima-common.runLabels" . | nindent 4 }}
  annotations: {{- include "lima-common.runAnnotations" . | nindent 4 }}
immutable: true
data:
  specs.json: {{ dict "runs" (list .run) | toJson | quote }}
{{- end -}}
