{{/*
Environment of every container: our own, then `more`, then the user's, each name once; the user's
word is the last, and may use the others' as $(HF_HOME). Ray keeps its session in /tmp, states and
weights pass through the cache.

  env: {{- include "lima-common.env" (dict "cluster" .Values.cluster "more" .Values.cluster.gpu.nccl) | nindent 8 }}
*/}}
{{- define "lima-common.env" -}}
{{- $env := dict
  "HOME" "/tmp"
  "TMPDIR" "/cache"
  "RAY_TMPDIR" "/tmp"
  "HF_HOME" "/cache/huggingface"
  "LIMA_CACHE" "/cache/lima"
  "LIMA_STOP_FILE" "/tmp/lima/stop"
  "LIMA_WAIT_MINUTES" (int64 .cluster.waitMinutes | toString)
  "LIMA_ALLOW_EXTENSIONS" (ternary "1" "0" .cluster.extensions)
  "LIMA_PREFLIGHT" (ternary "1" "0" .cluster.preflight)
  "LIMA_ELASTIC" (ternary "1" "0" (ne (.elastic | default "") ""))
  "RAY_USAGE_STATS_ENABLED" "0"
  "PYTHONUNBUFFERED" "1"
-}}
{{- with .image -}}
  {{- $_ := set $env "LIMA_IMAGE" . -}}
{{- end -}}
{{- $own := merge $env (include "lima-common.storageEnv" .cluster | fromYaml) -}}
{{- $more := .more | default dict -}}
{{- $user := .cluster.env | default dict -}}
{{- range $layer := list (dict "says" $own "unless" (merge dict $more $user)) (dict "says" $more "unless" $user) (dict "says" $user "unless" dict) }}
{{- range $name, $value := $layer.says }}
{{- if not (hasKey $layer.unless $name) }}
- name: {{ $name | quote }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
