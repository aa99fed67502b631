{{/*
What to type next.

  {{ include "lima-common.notes" (dict "root" $ "kind" "train") }}
*/}}
{{- define "lima-common.notes" -}}
{{- $cluster := .root.Values.cluster -}}
{{- $namespace := .root.Release.Namespace -}}
{{- $files := list -}}
{{- range $run := .root.Values.runs -}}
  {{- range $stage := list "base" "train" "generate" -}}
    {{- with index $run $stage -}}
      {{- range list .data .heldout .prompts -}}
        {{- if and . (not (contains ":" .path)) (not (hasPrefix "/" .path)) }}{{ $files = append $files .path }}{{ end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
Runs of kind {{ .kind }}: {{ len .root.Values.runs }}, in the queue {{ $cluster.queue }} of namespace {{ $namespace }}.
{{- with $files | uniq }}

Before they start, these files must lie below {{ include "lima-common.storageUri" $cluster }}:
{{- range . }}
  {{ . }}
{{- end }}
{{- end }}

Prove that the pods can use the storage:
  helm test {{ .root.Release.Name }} -n {{ $namespace }} --logs

Follow the runs:
  lima-k8s watch -n {{ $namespace }}
  lima-k8s status -n {{ $namespace }}
  lima-k8s explain RUN -n {{ $namespace }}      # why does it wait?
  lima-k8s logs RUN -n {{ $namespace }}         # also after its pods are gone

Look at the results:
{{- if eq .kind "curate" }}
  lima-k8s curate show {{ include "lima-common.storageUri" $cluster }}
{{- else }}
  lima-k8s aggregate {{ include "lima-common.storageUri" $cluster }} --by arm
{{- end }}

End them; results stay:
  helm uninstall {{ .root.Release.Name }} -n {{ $namespace }}
{{- end -}}
