{{/*
Text as a part of a DNS label that begins with a letter: `Stack Exchange 32k` -> `stack-exchange-32k`.
What has no letter or digit of ASCII becomes `run`; the full text is in the annotations.

  {{ include "lima-common.slug" (dict "text" "Stack Exchange 32k" "length" 26) }}
*/}}
{{- define "lima-common.slug" -}}
{{- $slug := regexReplaceAll "[^a-z0-9]+" (lower .text) "-" | trimAll "-" -}}
{{- $slug := regexReplaceAll "^([0-9])" $slug "r$1" | default "run" -}}
{{- $slug | trunc (int .length) | trimSuffix "-" -}}
{{- end -}}

{{/*
Name of a run's RayJob and ConfigMap: arm, seed, and a hash of what it computes and where it goes.
The same run in another release has the same name, so that it cannot run twice at once. At most
47 characters: KubeRay refuses more. Numbers are read and written once, since `1e-05` from a file
and `0.00001` from --set are one number and two texts.

  {{ include "lima-common.runName" (dict "run" $run "cluster" .Values.cluster) }}
*/}}
{{- define "lima-common.runName" -}}
{{- $spec := .run | toJson | fromJson | toJson -}}
{{- $hash := printf "%s%s" $spec (include "lima-common.storageUri" .cluster) | sha256sum | trunc 8 -}}
{{- $slug := include "lima-common.slug" (dict "text" (toString .run.arm) "length" 26) -}}
{{- printf "%s-s%d-%s" $slug (int64 .run.seed) $hash -}}
{{- end -}}
