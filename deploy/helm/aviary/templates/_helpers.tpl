{{- define "aviary.labels" -}}
app.kubernetes.io/name: aviary
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "aviary.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag }}
{{- end }}

{{/* No process of a pod is root, writes outside its volumes or asks the cluster for anything. */}}
{{- define "aviary.pod" -}}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "aviary.locked" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "aviary.env" -}}
{{- range $name := list "REDIS_URL" "SECRET_KEY" "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.secrets.server }}, key: {{ $name }}}}
{{- end }}
- {name: AVIARY_SIGNER, value: /run/aviary-signer/signer.sock}
- {name: AVIARY_PUBLIC_URL, value: {{ .Values.publicUrl | quote }}}
# Probes and Prometheus call a pod by its address.
- {name: POD_IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: ALLOWED_HOSTS, value: "{{ .Values.allowedHosts }},localhost,$(POD_IP)"}
- {name: AVIARY_HTTPS, value: "1"}
- {name: AVIARY_TRUSTED_PROXIES, value: "1"}
- {name: S3_ENDPOINT_URL, value: {{ .Values.s3.endpoint | quote }}}
- {name: AVIARY_S3_BUCKET, value: {{ .Values.s3.bucket | quote }}}
- {name: AWS_REGION, value: {{ .Values.s3.region | quote }}}
{{- with .Values.secrets.metrics }}
- name: AVIARY_METRICS_TOKEN
  valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}
{{- end }}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "aviary.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/aviary}
- {name: signer, mountPath: /run/aviary-signer}
{{- end }}

{{- define "aviary.volumes" -}}
- {name: tmp, emptyDir: {}}
- {name: home, emptyDir: {}}
- {name: signer, emptyDir: {medium: Memory}}
- name: signer-keys
  secret: {secretName: {{ .Values.secrets.signerKeys }}, defaultMode: 288}
{{- end }}

{{/* Beside what signs, in each pod: a container of another user, the only one that has the keys. */}}
{{- define "aviary.signer" -}}
- name: signer
  image: {{ include "aviary.image" . }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  restartPolicy: Always
  command: {{ index (.Files.Get "processes.json" | fromJson) "signer" "command" | toJson }}
  securityContext:
    runAsUser: 10004
    {{- include "aviary.locked" . | nindent 4 }}
  startupProbe:
    exec: {command: [test, -S, /run/aviary-signer/signer.sock]}
    periodSeconds: 1
    failureThreshold: 60
  resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 128Mi}}
  volumeMounts:
    - {name: signer, mountPath: /run/aviary-signer}
    - {name: signer-keys, mountPath: /var/lib/aviary-keys, readOnly: true}
{{- end }}
