{{/*
A pod template with what the cluster's `pods` and `caBundle` say of its role, as YAML. Our labels
are the last word, and so are `annotations`: ready as text, since an arm may hold what Helm cannot
write as YAML. `named` is more of the metadata.

  template: {{- include "lima-common.finished" (dict "pod" $text "role" "head" "container" "ray-head" "cluster" .cluster "annotations" $annotations) | nindent 4 }}
*/}}
{{- define "lima-common.finished" -}}
{{- $pod := fromYaml .pod -}}
{{- $ours := deepCopy $pod.metadata.labels -}}
{{- $pods := .cluster.pods | default dict -}}
{{- $patches := list (include "lima-common.caPatch" . | fromJson) -}}
{{- range $role := list "all" .role -}}
  {{- with index $pods $role -}}
    {{- $patches = append $patches (include "lima-common.podPatch" (dict "given" . "container" $.container) | fromJson) -}}
    {{- $patches = append $patches (.podOverrides | default dict) -}}
  {{- end -}}
{{- end -}}
{{- range $patch := $patches -}}
  {{- $pod = (include "lima-common.merged" (dict "base" $pod "patch" $patch "key" "") | fromJson).value -}}
{{- end -}}
metadata:
  {{- with .named }}
  {{- . | nindent 2 }}
  {{- end }}
  labels: {{- merge $ours ($pod.metadata.labels | default dict) | toYaml | nindent 4 }}
  {{- include "lima-common.annotations" (dict "ours" (.annotations | default "") "more" ($pod.metadata.annotations | default dict)) | nindent 2 }}
spec: {{- toYaml $pod.spec | nindent 2 }}
{{- end -}}

{{/*
Annotations: `ours` as text, and `more` but for those.

  {{- include "lima-common.annotations" (dict "ours" $text "more" $cluster.jobAnnotations) | nindent 2 }}
*/}}
{{- define "lima-common.annotations" -}}
{{- if or .ours .more -}}
annotations:
{{- with .ours }}{{ . | nindent 2 }}{{ end }}
{{- range $name, $value := .more }}
{{- if not (contains (printf "\n%s: " $name) (printf "\n%s" $.ours)) }}
  {{ $name | quote }}: {{ toString $value | quote }}
{{- end }}
{{- end }}
{{- end -}}
{{- end -}}

{{/*
What a role's values say, as a patch of the pod template in JSON.

  {{ include "lima-common.podPatch" (dict "given" .Values.cluster.pods.head "container" "ray-head") }}
*/}}
{{- define "lima-common.podPatch" -}}
{{- $metadata := dict -}}
{{- range $key := list "labels" "annotations" -}}
  {{- with index $.given $key }}{{ $_ := set $metadata $key . }}{{ end -}}
{{- end -}}
{{- $spec := dict -}}
{{- range $key := list "volumes" "initContainers" "nodeSelector" "affinity" "topologySpreadConstraints" "tolerations" "schedulerName" "priorityClassName" "hostNetwork" -}}
  {{- with index $.given $key }}{{ $_ := set $spec $key . }}{{ end -}}
{{- end -}}
{{- $container := dict "name" .container -}}
{{- with .given.volumeMounts }}{{ $_ := set $container "volumeMounts" . }}{{ end -}}
{{- $env := list -}}
{{- range $name, $value := .given.env }}{{ $env = append $env (dict "name" $name "value" (toString $value)) }}{{ end -}}
{{- with $env }}{{ $_ := set $container "env" . }}{{ end -}}
{{- if gt (len $container) 1 }}{{ $_ := set $spec "containers" (list $container) }}{{ end -}}
{{- dict "metadata" $metadata "spec" $spec | toJson -}}
{{- end -}}

{{/*
The cluster's own certificates, as a patch of the pod template in JSON.

  {{ include "lima-common.caPatch" (dict "cluster" .Values.cluster "container" "ray-head") }}
*/}}
{{- define "lima-common.caPatch" -}}
{{- $patch := dict -}}
{{- with .cluster.caBundle -}}
{{- if .configMap -}}
  {{- $file := printf "/etc/lima-ca/%s" .key -}}
  {{- $env := list -}}
  {{- range list "SSL_CERT_FILE" "REQUESTS_CA_BUNDLE" "CURL_CA_BUNDLE" "AWS_CA_BUNDLE" -}}
    {{- $env = append $env (dict "name" . "value" $file) -}}
  {{- end -}}
  {{- $mount := dict "name" "lima-ca" "mountPath" "/etc/lima-ca" "readOnly" true -}}
  {{- $container := dict "name" $.container "env" $env "volumeMounts" (list $mount) -}}
  {{- $volume := dict "name" "lima-ca" "configMap" (dict "name" .configMap) -}}
  {{- $patch = dict "spec" (dict "containers" (list $container) "volumes" (list $volume)) -}}
{{- end -}}
{{- end -}}
{{- toJson $patch -}}
{{- end -}}

{{/*
A strategic merge, as JSON {"value": …}: mappings deep, null takes away, lists of named things by
their names. Taints and Secrets are added to ours.

  {{ (include "lima-common.merged" (dict "base" $pod "patch" $patch "key" "") | fromJson).value }}
*/}}
{{- define "lima-common.merged" -}}
{{- $by := dict "containers" "name" "initContainers" "name" "volumes" "name" "env" "name" "imagePullSecrets" "name" "volumeMounts" "mountPath" "ports" "containerPort" "hostAliases" "ip" "topologySpreadConstraints" "topologyKey" -}}
{{- $result := .patch -}}
{{- if and (kindIs "map" .base) (kindIs "map" .patch) -}}
  {{- $result = deepCopy .base -}}
  {{- range $name, $value := .patch -}}
    {{- if kindIs "invalid" $value -}}
      {{- $_ := unset $result $name -}}
    {{- else -}}
      {{- $part := include "lima-common.merged" (dict "base" (index $.base $name) "patch" $value "key" $name) | fromJson -}}
      {{- $_ := set $result $name $part.value -}}
    {{- end -}}
  {{- end -}}
{{- else if and (kindIs "slice" .base) (kindIs "slice" .patch) -}}
  {{- if hasKey $by .key -}}
    {{- $key := get $by .key -}}
    {{- $result = list -}}
    {{- $names := list -}}
    {{- range $item := .base -}}
      {{- $names = append $names (toString (index $item $key)) -}}
      {{- range $other := $.patch -}}
        {{- if eq (toString (index $other $key)) (toString (index $item $key)) -}}
          {{- $item = (include "lima-common.merged" (dict "base" $item "patch" $other "key" "") | fromJson).value -}}
        {{- end -}}
      {{- end -}}
      {{- $result = append $result $item -}}
    {{- end -}}
    {{- range $other := .patch -}}
      {{- if not (has (toString (index $other $key)) $names) }}{{ $result = append $result $other }}{{ end -}}
    {{- end -}}
  {{- else if has .key (list "tolerations" "envFrom") -}}
    {{- $result = concat .base .patch -}}
  {{- end -}}
{{- end -}}
{{- dict "value" $result | toJson -}}
{{- end -}}
