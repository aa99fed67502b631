{{/*
Pod template of a head or of a worker, before the cluster's `pods` are put in; `size` times `count`
is what it requests.

  {{ include "lima-common.rayPod" (merge (dict "role" "head" "size" $cluster.head "count" 1) $scope) }}
*/}}
{{- define "lima-common.rayPod" -}}
{{- $shared := include "lima-common.mebibytes" (mulf (float64 .size.sharedMemoryGiB) .count) | int64 -}}
{{- $cuda := and (eq .role "worker") (eq .shape.device "cuda") -}}
{{- $extra := dict -}}
{{- $image := include "lima-common.image" (dict "cluster" .cluster "device" .shape.device "engine" (ternary .shape.engine "" (eq .role "worker"))) | trimAll "\"" -}}
{{- $elastic := include "lima-common.elastic" . -}}
{{- if $cuda -}}
  {{- $_ := set $extra .cluster.gpu.resource (toString .count) -}}
  {{- if gt (int .shape.pods) 1 -}}
    {{- $extra = merge $extra (.cluster.gpu.fabric | default dict) -}}
  {{- end -}}
{{- end -}}
metadata:
  labels: {{- include "lima-common.podLabels" (dict "cluster" .cluster "ours" (include "lima-common.runLabels" .)) | nindent 4 }}
  {{- if $cuda }}
  annotations:
    {{- range $name, $value := .cluster.gpu.podAnnotations }}
    {{ $name | quote }}: {{ $value | quote }}
    {{- end }}
    {{- with include "lima-common.topology" . }}
    {{- . | nindent 4 }}
    {{- end }}
  {{- end }}
spec:
  {{- include "lima-common.podBase" (dict "cluster" .cluster "token" (and (eq .role "head") (ne $elastic ""))) | nindent 2 }}
  terminationGracePeriodSeconds: {{ include "lima-common.graceSeconds" (dict "cluster" .cluster "pods" .shape.pods) }}
  {{- if $cuda }}
  # The mark of lima-queue's flavors of GPUs: what does not tolerate it gets no room of theirs.
  tolerations:
    {{- with .cluster.gpu.flavor }}
    - {key: lima-k8s.io/flavor, operator: Equal, value: {{ . | quote }}, effect: NoSchedule}
    {{- else }}
    - {key: lima-k8s.io/flavor, operator: Exists, effect: NoSchedule}
    {{- end }}
  {{- with .cluster.gpu.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
  {{- end }}
  {{- end }}
  containers:
    - name: ray-{{ .role }}
      image: {{ $image | quote }}
      imagePullPolicy: {{ .cluster.image.pullPolicy }}
      # The pod's status then says why it failed, also when the pod is gone soon.
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext: {{- include "lima-common.containerSecurity" . | nindent 8 }}
      resources: {{- include "lima-common.resources" (dict "size" .size "count" .count "extra" $extra "cache" (include "lima-common.nodeCache" (dict "cluster" .cluster "cuda" $cuda))) | nindent 8 }}
      env: {{- include "lima-common.env" (dict "cluster" .cluster "elastic" $elastic "image" $image "more" (ternary .cluster.gpu.nccl dict $cuda)) | nindent 8 }}
      {{- with include "lima-common.envFrom" .cluster }}
      envFrom: {{- . | nindent 8 }}
      {{- end }}
      # Before anything is killed, the run saves its state; Ray goes on meanwhile.
      lifecycle:
        preStop:
          exec:
            command: [python, -m, lima_jobs.prestop]
      {{- if eq .role "head" }}
      ports:
        - {name: gcs-server, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        - {name: client, containerPort: 10001}
        - {name: metrics, containerPort: 8080}
      {{- else }}
      ports:
        - {name: metrics, containerPort: 8080}
      {{- end }}
      volumeMounts:
        {{- include "lima-common.volumeMounts" (dict "sharedMemoryMi" $shared) | nindent 8 }}
        {{- if eq .role "head" }}
        - name: specs
          mountPath: /etc/lima
          readOnly: true
        {{- end }}
  volumes:
    {{- include "lima-common.volumes" (dict "cluster" .cluster "sharedMemoryMi" $shared "cuda" $cuda) | nindent 4 }}
    {{- if eq .role "head" }}
    - name: specs
      configMap:
        name: {{ .name }}
    {{- end }}
{{- end -}}

{{/*
Not empty where worker pods come and go. On a flavor with a topology Kueue places a run that grows
only with a gate of its own, which is off by default.

  {{- if include "lima-common.elastic" $scope }}
*/}}
{{- define "lima-common.elastic" -}}
{{- $placed := and (eq .shape.device "cuda") (dig "topology" "levels" list .cluster) (not .cluster.autoscaling.withTopology) -}}
{{- if and .cluster.autoscaling.enabled (gt (int .shape.pods) 0) (not $placed) }}true{{ end -}}
{{- end -}}

{{/*
Where Kueue shall place GPU workers. A flavor with a topology takes no pod that does not ask.

  annotations: {{- include "lima-common.topology" $scope | nindent 4 }}
*/}}
{{- define "lima-common.topology" -}}
{{- with .cluster.topology -}}
{{- if and .levels .level (gt (int $.shape.pods) 1) (not (include "lima-common.elastic" $)) -}}
kueue.x-k8s.io/podset-{{ ternary "required" "preferred" .required }}-topology: {{ .level | quote }}
{{- else if .levels -}}
kueue.x-k8s.io/podset-unconstrained-topology: "true"
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Parameters of `ray start`. Its object store holds little here: half of the shared memory.

  rayStartParams: {{- include "lima-common.rayStart" (dict "cpus" 8 "gpus" 8 "size" $cluster.gpu.worker "count" 8) | nindent 8 }}
*/}}
{{- define "lima-common.rayStart" -}}
num-cpus: {{ int .cpus | quote }}
num-gpus: {{ int .gpus | quote }}
{{- with mulf (float64 .size.sharedMemoryGiB) .count 536870912 | int64 }}
object-store-memory: {{ max . 78643200 | quote }}
{{- end }}
{{- end -}}
