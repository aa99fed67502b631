{{/*
The pod that hands the job to Ray and follows its log.

  submitterPodTemplate: {{- include "lima-common.submitter" $scope | nindent 4 }}
*/}}
{{- define "lima-common.submitter" -}}
metadata:
  labels: {{- include "lima-common.podLabels" (dict "cluster" .cluster "ours" (include "lima-common.runLabels" .)) | nindent 4 }}
spec:
  {{- include "lima-common.podBase" (dict "cluster" .cluster) | nindent 2 }}
  restartPolicy: Never
  containers:
    - name: ray-job-submitter
      image: {{ include "lima-common.image" (dict "cluster" .cluster "device" .shape.device) }}
      imagePullPolicy: {{ .cluster.image.pullPolicy }}
      # The pod's status then says why it failed, also when the pod is gone soon.
      terminationMessagePolicy: FallbackToLogsOnError
      securityContext: {{- include "lima-common.containerSecurity" . | nindent 8 }}
      resources: {{- include "lima-common.resources" (dict "size" .cluster.submitter "count" 1 "extra" dict "cache" 0) | nindent 8 }}
      env:
        - name: HOME
          value: /tmp
      volumeMounts:
        - name: tmp
          mountPath: /tmp
  volumes:
    - name: tmp
      emptyDir: {}
{{- end -}}
