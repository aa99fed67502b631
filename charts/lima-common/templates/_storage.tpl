{{/*
URI of the storage, without a slash at its end: with one, a run would have another name.

  uri: {{ include "lima-common.storageUri" .Values.cluster | quote }}
*/}}
{{- define "lima-common.storageUri" -}}
{{- regexReplaceAll "/+$" .storage.uri "" -}}
{{- end -}}

{{/*
Environment that opens the storage, as a mapping; no credential is in it.

  {{- $env := include "lima-common.storageEnv" .Values.cluster | fromYaml }}
*/}}
{{- define "lima-common.storageEnv" -}}
# Data of a run that is not in the image is looked for below the storage.
LIMA_DATA: {{ include "lima-common.storageUri" . | quote }}
{{- with .storage.endpoint }}
AWS_ENDPOINT_URL: {{ . | quote }}
{{- end }}
{{- with .storage.region }}
AWS_REGION: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
Secrets whose keys become environment, by name only.

  envFrom: {{- include "lima-common.envFrom" .Values.cluster | nindent 8 }}
*/}}
{{- define "lima-common.envFrom" -}}
{{- range prepend (.secrets | default list) (.storage.secretName | default "") | compact | uniq }}
- secretRef:
    name: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
GiB of the node's own disk that the cache of a pod may take.

  {{ include "lima-common.nodeCache" (dict "cluster" .Values.cluster "cuda" true) }}
*/}}
{{- define "lima-common.nodeCache" -}}
{{- ternary 0 .cluster.cache.sizeGiB (and .cuda (not (empty .cluster.cache.storageClass))) -}}
{{- end -}}

{{/*
Volumes of a pod of a run: scratch, shared memory, and the cache for weights and states. Only nodes
with GPUs have disks of the cache's storage class.

  volumes: {{- include "lima-common.volumes" (dict "cluster" .Values.cluster "sharedMemoryMi" 512 "cuda" true) | nindent 4 }}
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
{{- if and .cuda .cluster.cache.storageClass }}
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
