{{/*
Environment that opens the storage; no credential is in it.

  env: {{- include "lima-common.storageEnv" .Values.cluster | nindent 8 }}
*/}}
{{- define "lima-common.storageEnv" -}}
# Data of a run that is not in the image is looked for below the storage.
- name: LIMA_DATA
  value: {{ .storage.uri | quote }}
{{- with .storage.endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .storage.region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
Secrets whose keys become environment, by name only.

  envFrom: {{- include "lima-common.envFrom" .Values.cluster | nindent 8 }}
*/}}
{{- define "lima-common.envFrom" -}}
{{- range prepend .secrets .storage.secretName | compact | uniq }}
- secretRef:
    name: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
Volumes of a pod of a run: scratch, shared memory, and the cache for weights and states.

  volumes: {{- include "lima-common.volumes" (dict "cluster" .Values.cluster "sharedMemoryMi" 512) | nindent 4 }}
*/}}
{{- define "lima-common.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .sharedMemoryMi }}
- name: shared-memory
  emptyDir:
    medium: Memory
    sizeLimit: {{ . }}Mi
{{- end }}
- name: cache
{{- if .cluster.cache.storageClass }}
  ephemeral:
    volumeClaimTemplate:
      spec:
        accessModes: [ReadWriteOnce]
        storageClassName: {{ .cluster.cache.storageClass | quote }}
        resources:
          requests:
            storage: {{ int64 .cluster.cache.sizeGiB }}Gi
{{- else }}
  emptyDir:
    sizeLimit: {{ int64 .cluster.cache.sizeGiB }}Gi
{{- end }}
{{- end -}}

{{/*
Where a container finds those volumes.

  volumeMounts: {{- include "lima-common.volumeMounts" (dict "sharedMemoryMi" 512) | nindent 8 }}
*/}}
{{- define "lima-common.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- if .sharedMemoryMi }}
- name: shared-memory
  mountPath: /dev/shm
{{- end }}
- name: cache
  mountPath: /cache
{{- end -}}
