{{/*
The RayJob of a run. Kueue decides when it starts and where its pods go.

  {{ include "lima-common.rayJob" $scope }}
*/}}
{{- define "lima-common.rayJob" -}}
{{- $cluster := .cluster -}}
{{- $cuda := eq .shape.device "cuda" -}}
{{- $worker := ternary $cluster.gpu.worker $cluster.cpu.worker $cuda -}}
{{- $elastic := ne (include "lima-common.elastic" .) "" -}}
{{- $first := ternary (min .shape.pods $cluster.autoscaling.minPods) .shape.pods $elastic -}}
{{- $cpus := ternary (max .shape.perPod (mulf (float64 $worker.cpu) .shape.perPod | int64)) .shape.perPod $cuda -}}
apiVersion: ray.io/v1
kind: RayJob
metadata:
  name: {{ .name }}
  namespace: {{ .root.Release.Namespace | quote }}
  {{- /* Ours are the last word. */}}
  {{- $labels := merge (include "lima-common.runLabels" . | fromYaml) (dict "kueue.x-k8s.io/queue-name" $cluster.queue) }}
  {{- with $cluster.priorityClass }}{{ $_ := set $labels "kueue.x-k8s.io/priority-class" . }}{{ end }}
  labels: {{- merge $labels ($cluster.jobLabels | default dict) | toYaml | nindent 4 }}
  {{- $annotations := include "lima-common.runAnnotations" . }}
  {{- $own := ternary (printf "%s\nkueue.x-k8s.io/elastic-job: \"true\"" $annotations) $annotations $elastic }}
  {{- include "lima-common.annotations" (dict "ours" $own "more" ($cluster.jobAnnotations | default dict)) | nindent 2 }}
spec:
  submissionMode: K8sJobMode
  entrypoint: {{ include "lima-common.entrypoint" . | quote }}
  # Kueue asks for this; what stays after the end would keep its GPUs.
  shutdownAfterJobFinishes: true
  ttlSecondsAfterFinished: 0
  # A new Ray cluster after a failure. Storage knows what is done already.
  backoffLimit: {{ int64 $cluster.retries }}
  submitterConfig:
    # A submitter that is evicted must not end a run that is well.
    backoffLimit: 10
  {{- with int64 ($cluster.deadlineSeconds | default 0) }}
  activeDeadlineSeconds: {{ . }}
  {{- end }}
  submitterPodTemplate: {{- include "lima-common.finished" (dict "pod" (include "lima-common.submitter" .) "role" "submitter" "container" "ray-job-submitter" "cluster" $cluster) | nindent 4 }}
  rayClusterSpec:
    rayVersion: {{ $cluster.rayVersion | quote }}
    {{- if $cluster.tokenAuth }}
    authOptions:
      mode: token
    {{- end }}
    enableInTreeAutoscaling: {{ $elastic }}
    {{- if $elastic }}
    autoscalerOptions:
      version: v2
      idleTimeoutSeconds: {{ int64 $cluster.autoscaling.idleSeconds }}
      securityContext: {{- include "lima-common.containerSecurity" . | nindent 8 }}
      env:
        - name: HOME
          value: /tmp
      volumeMounts:
        - name: tmp
          mountPath: /tmp
    {{- end }}
    headGroupSpec:
      serviceType: ClusterIP
      rayStartParams:
        dashboard-host: 0.0.0.0
        {{- /* Workers never run beside the driver, unless there is no other place. */}}
        {{- include "lima-common.rayStart" (dict "cpus" (ternary 0 1 (gt (int .shape.pods) 0)) "gpus" 0 "size" $cluster.head "count" 1) | nindent 8 }}
      template: {{- include "lima-common.finished" (dict "pod" (include "lima-common.rayPod" (merge (dict "role" "head" "size" $cluster.head "count" 1) .)) "role" "head" "container" "ray-head" "cluster" $cluster "annotations" $annotations) | nindent 8 }}
    {{- if gt (int .shape.pods) 0 }}
    workerGroupSpecs:
      - groupName: workers
        replicas: {{ int $first }}
        minReplicas: {{ int $first }}
        maxReplicas: {{ int .shape.pods }}
        rayStartParams: {{- include "lima-common.rayStart" (dict "cpus" $cpus "gpus" (ternary .shape.perPod 0 $cuda) "size" $worker "count" .shape.perPod) | nindent 10 }}
        template: {{- include "lima-common.finished" (dict "pod" (include "lima-common.rayPod" (merge (dict "role" "worker" "size" $worker "count" .shape.perPod) .)) "role" "worker" "container" "ray-worker" "cluster" $cluster "annotations" $annotations) | nindent 10 }}
    {{- end }}
{{- end -}}

{{/*
The command of the driver.

  entrypoint: {{ include "lima-common.entrypoint" $scope | quote }}
*/}}
{{- define "lima-common.entrypoint" -}}
python -m lima_jobs.run /etc/lima/specs.json --storage {{ include "lima-common.storageUri" .cluster | squote }}
{{- range .only }} --only {{ . }}{{ end }}
{{- end -}}
