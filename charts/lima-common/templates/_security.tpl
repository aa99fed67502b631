{{/*
Security of a pod, as the pod security standard `restricted` asks.

  securityContext: {{- include "lima-common.podSecurity" .Values.cluster | nindent 4 }}
*/}}
{{- define "lima-common.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ int64 .user }}
runAsGroup: {{ int64 .user }}
fsGroup: {{ int64 .user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/*
Security of a container. What it writes goes to /tmp, /cache and /dev/shm.

  securityContext: {{- include "lima-common.containerSecurity" $ | nindent 8 }}
*/}}
{{- define "lima-common.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}
