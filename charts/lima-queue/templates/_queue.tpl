{{/*
An amount times a number of nodes: `5120Mi` and 4 give `20480Mi`.

  {{ include "lima-queue.times" (dict "amount" "5120Mi" "count" 4) }}
*/}}
{{- define "lima-queue.times" -}}
{{- $number := regexFind "^[0-9]+" (toString .amount) -}}
{{- if not (regexMatch "^[0-9]+[A-Za-z]*$" (toString .amount)) -}}
  {{- fail (printf "cluster.gpu.fabric: %q is not a whole amount such as 32 or 5120Mi" .amount) -}}
{{- end -}}
{{- printf "%d%s" (mul $number .count) (trimPrefix $number (toString .amount)) -}}
{{- end -}}

{{/*
Tolerations without what is empty.

  tolerations: {{- include "lima-queue.tolerations" .Values.cluster.gpu.tolerations | nindent 4 }}
*/}}
{{- define "lima-queue.tolerations" -}}
{{- range . }}
- operator: {{ .operator | default "Exists" }}
  {{- with .key }}
  key: {{ . | quote }}
  {{- end }}
  {{- with .value }}
  value: {{ . | quote }}
  {{- end }}
  {{- with .effect }}
  effect: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/*
Those who may submit, as subjects of a RoleBinding.

  subjects: {{- include "lima-queue.subjects" .Values.queue.submitters | nindent 2 }}
*/}}
{{- define "lima-queue.subjects" -}}
{{- range .users }}
- {kind: User, name: {{ . | quote }}, apiGroup: rbac.authorization.k8s.io}
{{- end }}
{{- range .groups }}
- {kind: Group, name: {{ . | quote }}, apiGroup: rbac.authorization.k8s.io}
{{- end }}
{{- range .serviceAccounts }}
{{- $parts := splitList "/" . }}
{{- if ne (len $parts) 2 }}
  {{- fail (printf "queue.submitters.serviceAccounts: %q is not NAMESPACE/NAME" .) }}
{{- end }}
- {kind: ServiceAccount, namespace: {{ index $parts 0 | quote }}, name: {{ index $parts 1 | quote }}}
{{- end }}
{{- end -}}

{{/*
The release's name without `-queue`: of the ClusterQueue, and before the names of what is shared.

  {{ include "lima-queue.base" $ }}
*/}}
{{- define "lima-queue.base" -}}
{{- trimSuffix "-queue" .Release.Name -}}
{{- end -}}

{{/*
Name of the ClusterQueue.

  name: {{ include "lima-queue.clusterQueue" $ | quote }}
*/}}
{{- define "lima-queue.clusterQueue" -}}
{{- .Values.queue.clusterQueue | default (include "lima-queue.base" .) -}}
{{- end -}}

{{/*
What the names of flavors, topology and roles begin with. Queues of more teams use those of the
release that shares them.

  name: {{ include "lima-queue.prefix" $ }}-cpu
*/}}
{{- define "lima-queue.prefix" -}}
{{- .Values.queue.prefix | default (ternary (include "lima-queue.base" .) "lima" .Values.queue.shared) -}}
{{- end -}}

{{/*
The kinds of GPU nodes as JSON: {"flavors": [{"name": "gpu", "gpus": 32, …}]}; those of no node are
left out.

  {{ $flavors := (include "lima-queue.flavors" $ | fromJson).flavors }}
*/}}
{{- define "lima-queue.flavors" -}}
{{- $gpu := .Values.cluster.gpu -}}
{{- $alone := dict "name" "gpu" "nodes" .Values.queue.quota.gpuNodes "nodeLabels" $gpu.nodeLabels "tolerations" $gpu.tolerations -}}
{{- $flavors := list -}}
{{- $seen := dict "cpu" true -}}
{{- range .Values.queue.flavors | default (list $alone) -}}
  {{- if hasKey $seen .name -}}
    {{- fail (printf "queue.flavors: two flavors are called %q; `cpu` is that of nodes without GPUs" .name) -}}
  {{- end -}}
  {{- $_ := set $seen .name true -}}
  {{- $nodes := ternary .nodes 1 (hasKey . "nodes") | int -}}
  {{- if gt $nodes 0 -}}
    {{- $flavors = append $flavors (merge (dict
      "nodes" $nodes
      "gpus" (mul $nodes (int (.perNode | default $gpu.perNode)))
      "resource" (.resource | default $gpu.resource)
      "fabric" (ternary .fabric true (hasKey . "fabric"))
      "topology" (ternary .topology true (hasKey . "topology"))) .) -}}
  {{- end -}}
{{- end -}}
{{- dict "flavors" $flavors | toJson -}}
{{- end -}}

{{/*
Spec of a ResourceFlavor: the nodes that it stands for. Kueue puts labels and tolerations on pods.
A `mark` is a taint that no node need have: pods without GPUs do not tolerate it, so that Kueue
never gives them room of this flavor.

  spec: {{- include "lima-queue.flavor" (dict "nodes" .Values.cluster.gpu "topology" "lima" "mark" "gpu") | nindent 2 }}
*/}}
{{- define "lima-queue.flavor" -}}
nodeLabels: {{- toYaml (.nodes.nodeLabels | default dict) | nindent 2 }}
{{- with .mark }}
nodeTaints:
  - {key: lima-k8s.io/flavor, value: {{ . | quote }}, effect: NoSchedule}
{{- end }}
{{- with .nodes.tolerations }}
tolerations: {{- include "lima-queue.tolerations" . | nindent 2 }}
{{- end }}
{{- with .topology }}
topologyName: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
The quota of one flavor, in the order of the group's resources; `borrow` and `lend` are shares.

  resources: {{- include "lima-queue.quotas" (dict "names" $names "amounts" $amounts "queue" $queue) | nindent 12 }}
*/}}
{{- define "lima-queue.quotas" -}}
{{- range $name := .names }}
{{- $amount := get $.amounts $name | default "0" }}
- name: {{ $name | quote }}
  nominalQuota: {{ $amount }}
  {{- if $.queue.cohort }}
  {{- range $key, $limit := dict "borrow" "borrowingLimit" "lend" "lendingLimit" }}
  {{- $share := index $.queue.quota $key }}
  {{- if not (kindIs "invalid" $share) }}
  {{ $limit }}: {{ include "lima-queue.share" (dict "amount" $amount "share" $share) }}
  {{- end }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end -}}

{{/*
A share of an amount, rounded down: `1000m` and 0.5 give `500m`.

  {{ include "lima-queue.share" (dict "amount" "1000m" "share" 0.5) }}
*/}}
{{- define "lima-queue.share" -}}
{{- $number := regexFind "^[0-9]+" (toString .amount) -}}
{{- printf "%d%s" (mulf (float64 $number) (float64 .share) | floor | int64) (trimPrefix $number (toString .amount)) -}}
{{- end -}}

{{/*
Refuses to install over a ClusterQueue that is being deleted: it goes with its last run, and takes
what was installed over it along.

  {{- include "lima-queue.checkAlive" $ }}
*/}}
{{- define "lima-queue.checkAlive" -}}
{{- $name := include "lima-queue.clusterQueue" . -}}
{{- $there := lookup "kueue.x-k8s.io/v1beta2" "ClusterQueue" "" $name | default dict -}}
{{- if dig "metadata" "deletionTimestamp" "" $there -}}
  {{- fail (printf "ClusterQueue %s is being deleted and stays until its last run ends: wait for that, or cancel the runs, then install" $name) -}}
{{- end -}}
{{- end -}}

{{/*
Name of the ClusterRole that lets submitters read quota.

  name: {{ include "lima-queue.readerRole" $ }}
*/}}
{{- define "lima-queue.readerRole" -}}
{{ include "lima-queue.prefix" . }}-queue-reader
{{- end -}}

{{/*
A CEL expression: true of a request that the policies bind, which is not an operator's.

  expression: {{ include "lima-queue.bound" .Values.queue.admission | quote }}
*/}}
{{- define "lima-queue.bound" -}}
{{- $free := list -}}
{{- range .operators -}}
  {{- $pattern := printf "^system:serviceaccount:%s$" (regexReplaceAll "/" . ":" | replace "." "[.]" | replace "*" "[^:]+") -}}
  {{- $free = append $free (printf "request.userInfo.username.matches('%s')" $pattern) -}}
{{- end -}}
{{- range .exemptUsers -}}
  {{- $free = append $free (printf "request.userInfo.username == %s" (toJson .)) -}}
{{- end -}}
{{- range .exemptGroups -}}
  {{- $free = append $free (printf "%s in request.userInfo.groups" (toJson .)) -}}
{{- end -}}
{{- if $free -}}!({{ join " || " $free }}){{- else -}}true{{- end -}}
{{- end -}}

{{/*
A CEL expression: true of a request by one of these; empty where nobody is named.

  {{- with include "lima-queue.isOneOf" .Values.queue.admission.high }}
*/}}
{{- define "lima-queue.isOneOf" -}}
{{- $is := list -}}
{{- range .users -}}{{- $is = append $is (printf "request.userInfo.username == %s" (toJson .)) -}}{{- end -}}
{{- range .groups -}}{{- $is = append $is (printf "%s in request.userInfo.groups" (toJson .)) -}}{{- end -}}
{{- range .serviceAccounts -}}
  {{- $is = append $is (printf "request.userInfo.username == %s" (printf "system:serviceaccount:%s" (replace "/" ":" .) | toJson)) -}}
{{- end -}}
{{- join " || " $is -}}
{{- end -}}
