{{/*
All manifests of a chart of runs. `stages` are those that need workers, in the order of a run;
`only` names stages when the others must be done already.

  {{ include "lima-common.runs" (dict "root" $ "kind" "train" "stages" (list "base" "train")) }}
*/}}
{{- define "lima-common.runs" -}}
{{- include "lima-common.check" .root -}}
{{- $cluster := .root.Values.cluster -}}
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
{{- range $index, $run := .Values.runs -}}
  {{- if not (and (kindIs "map" $run) (hasKey (default dict $run) "experiment") (hasKey (default dict $run) "arm")) -}}
    {{- fail (printf "runs[%d] is no whole run. Helm's --set 'runs[0].…' makes a new list of what it names alone: write the runs to a file, lima-k8s show RECIPE --set PATH=VALUE > runs.yaml, and give it with -f runs.yaml" $index) -}}
  {{- end -}}
{{- end -}}
{{- with .Values.cluster.topology -}}
  {{- if and .level (not (has .level (default list .levels))) -}}
    {{- fail (printf "cluster.topology.level: %q is not among cluster.topology.levels %v" .level (default list .levels)) -}}
  {{- end -}}
{{- end -}}
{{- /* A cluster that was asked knows Ray; where nothing was asked neither is known. */ -}}
{{- if and (.Capabilities.APIVersions.Has "ray.io/v1") (not (.Capabilities.APIVersions.Has "kueue.x-k8s.io/v1beta2")) -}}
  {{- fail "Kueue is not installed in this cluster, or serves no kueue.x-k8s.io/v1beta2: the runs would start at once, outside all quota (docs/cluster.md)" -}}
{{- end -}}
{{- end -}}
