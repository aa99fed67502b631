{{/*
Worker pods of a run, as JSON: {"device": "cuda", "pods": 4, "perPod": 8, "engine": "vllm"}. Each
stage fits: a copy of a model is never spread over two pods. `stages` are those that this chart runs
on workers; `engine` is that of generation, empty without one.

  {{ $shape := include "lima-common.shape" (dict "run" $run "cluster" .Values.cluster "stages" (list "train")) | fromJson }}
*/}}
{{- define "lima-common.shape" -}}
{{- $room := dict "cuda" (int .cluster.gpu.perNode) "cpu" (int .cluster.cpu.workersPerPod) -}}
{{- $pods := dict "cuda" 0 "cpu" 0 -}}
{{- $perPod := dict "cuda" 0 "cpu" 0 -}}
{{- $engine := "" -}}
{{- range $stage := .stages -}}
  {{- $spec := index $.run $stage -}}
  {{- if and $spec (not (include "lima-common.baseline" $spec)) -}}
    {{- $engine = $spec.engine | default $engine -}}
    {{- /* Curation takes what there is. */ -}}
    {{- $compute := $spec.compute | default (dict "device" "cpu" "workers" $room.cpu) -}}
    {{- $device := $compute.device | default "cuda" -}}
    {{- $copy := ternary (int ($compute.gpus_per_worker | default 1)) 1 (eq $device "cuda") -}}
    {{- $fit := div (get $room $device) $copy -}}
    {{- if eq (int $fit) 0 -}}
      {{- fail (printf "%s.compute.gpus_per_worker is %d, but a node has %d GPUs (cluster.gpu.perNode)" $stage $copy (get $room $device)) -}}
    {{- end -}}
    {{- $workers := int ($spec.on_workers | default $compute.workers | default 1) -}}
    {{- $need := div (add $workers (sub $fit 1)) $fit -}}
    {{- $each := mul (div (add $workers (sub $need 1)) $need) $copy -}}
    {{- $_ := set $pods $device (max (get $pods $device) $need) -}}
    {{- $_ := set $perPod $device (max (get $perPod $device) $each) -}}
  {{- end -}}
{{- end -}}
{{- $device := ternary "cuda" "cpu" (gt (int $pods.cuda) 0) -}}
{{- dict "device" $device "pods" (get $pods $device) "perPod" (get $perPod $device) "engine" $engine | toJson -}}
{{- end -}}

{{/*
Not empty where a stage's responses come from elsewhere: the driver asks for them, without workers.

  {{- if not (include "lima-common.baseline" $run.generate) }}
*/}}
{{- define "lima-common.baseline" -}}
{{- $path := dig "model" "path" "" . -}}
{{- if or (hasPrefix "endpoint:" $path) (hasPrefix "responses:" $path) }}true{{ end -}}
{{- end -}}

{{/*
A number of GiB as MiB.

  {{ include "lima-common.mebibytes" 1.5 }}
*/}}
{{- define "lima-common.mebibytes" -}}
{{- mulf (float64 .) 1024 | int64 -}}
{{- end -}}

{{/*
Requests and limits of `count` times a size. The CPU has no limit: idle cores may be used. Of the
node's disk a pod may also fill its cache of `cache` GiB.

  resources: {{- include "lima-common.resources" (dict "size" .Values.cluster.head "count" 1 "extra" dict "cache" 0) | nindent 8 }}
*/}}
{{- define "lima-common.resources" -}}
{{- $memory := printf "%sMi" (include "lima-common.mebibytes" (mulf (float64 .size.memoryGiB) .count)) -}}
{{- $disk := mulf (float64 (.size.diskGiB | default 0)) .count -}}
requests:
  cpu: {{ mulf (float64 .size.cpu) .count 1000 | int64 }}m
  memory: {{ $memory }}
  {{- if $disk }}
  ephemeral-storage: {{ include "lima-common.mebibytes" $disk }}Mi
  {{- end }}
  {{- range $name, $amount := .extra }}
  {{ $name }}: {{ $amount | quote }}
  {{- end }}
limits:
  memory: {{ $memory }}
  {{- if $disk }}
  ephemeral-storage: {{ include "lima-common.mebibytes" (addf $disk (float64 .cache)) }}Mi
  {{- end }}
  {{- range $name, $amount := .extra }}
  {{ $name }}: {{ $amount | quote }}
  {{- end }}
{{- end -}}

{{/*
Seconds that a pod may take to go: it writes its share of what is on its way, which is a state and
weights (a third of a state at most), and of the newest state.

  terminationGracePeriodSeconds: {{ include "lima-common.graceSeconds" (dict "cluster" .Values.cluster "pods" 4) }}
*/}}
{{- define "lima-common.graceSeconds" -}}
{{- $share := divf (mulf (float64 .cluster.stop.stateGiB) 1024) (max 1 .pods) -}}
{{- $upload := divf (mulf $share 7) (mulf (float64 .cluster.stop.uploadMiBps) 3) | ceil | int64 -}}
{{- add (int64 .cluster.stop.marginSeconds) $upload -}}
{{- end -}}
