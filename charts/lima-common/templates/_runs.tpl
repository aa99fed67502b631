{{/*
All manifests of a chart of runs. `stages` are those that need workers, in the order of a run;
`only` names stages when the others must be done already.

  {{ include "lima-common.runs" (dict "root" $ "kind" "train" "stages" (list "base" "train")) }}
*/}}
{{- define "lima-common.runs" -}}
{{- $cluster := .root.Values.cluster -}}
{{- include "lima-common.check" .root -}}
{{- $seen := dict -}}
{{- range $index, $run := .root.Values.runs }}
{{- $name := include "lima-common.runName" (dict "run" $run "cluster" $cluster) -}}
{{- if hasKey $seen $name -}}
  {{- fail (printf "runs[%d] is the same run as runs[%d]; leave one out" $index (get $seen $name)) -}}
{{- end -}}
{{- $_ := set $seen $name $index -}}
{{- $shape := include "lima-common.shape" (dict "run" $run "cluster" $cluster "stages" $.stages) | fromJson -}}
{{- $scope := dict "root" $.root "kind" $.kind "cluster" $cluster "run" $run "name" $name "shape" $shape "only" $.only }}
---
{{ include "lima-common.configMap" $scope }}
---
{{ include "lima-common.rayJob" $scope }}
{{- end }}
{{- end -}}

{{/*
Refuses values that the schema cannot judge, and says what to do.

  {{ include "lima-common.check" $ }}
*/}}
{{- define "lima-common.check" -}}
{{- if not .Values.cluster.storage.uri -}}
  {{- fail "cluster.storage.uri is not set: add --set cluster.storage.uri=s3://BUCKET/PREFIX" -}}
{{- end -}}
{{- if not .Values.runs -}}
  {{- fail "runs is empty: `lima-k8s show RECIPE` writes what belongs there" -}}
{{- end -}}
{{- end -}}
