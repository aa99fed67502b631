{{/*
Image of a run's pods: with CUDA only where it is used, with vLLM only for workers that use it.

  image: {{ include "lima-common.image" (dict "cluster" .Values.cluster "device" "cpu" "engine" "") }}
*/}}
{{- define "lima-common.image" -}}
{{- $name := ternary .cluster.image.gpu .cluster.image.cpu (eq .device "cuda") -}}
{{- if eq (.engine | default "") "vllm" -}}
  {{- $name = .cluster.image.vllm -}}
{{- end -}}
{{- if not (or .cluster.image.registry (contains "/" $name)) -}}
  {{- fail (printf "cluster.image.registry is not set, so that %s would be looked for at Docker Hub: name where your images are (docs/images.md), --set cluster.image.registry=REGISTRY" $name) -}}
{{- end -}}
{{- list .cluster.image.registry $name | compact | join "/" | quote -}}
{{- end -}}

{{/*
What all pods have: identity, security, image secrets.

  spec: {{- include "lima-common.podBase" (dict "cluster" .Values.cluster) | nindent 4 }}
*/}}
{{- define "lima-common.podBase" -}}
automountServiceAccountToken: {{ .token | default false }}
enableServiceLinks: false
{{- with .cluster.serviceAccount }}
serviceAccountName: {{ . | quote }}
{{- end }}
{{- with .cluster.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . | quote }}
  {{- end }}
{{- end }}
securityContext: {{- include "lima-common.podSecurity" .cluster | nindent 2 }}
{{- end -}}
