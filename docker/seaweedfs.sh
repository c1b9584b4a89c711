#!/bin/sh
# SeaweedFS as MinIO's stand-in: TLS on port 9000 with the same certificate, the bucket, and a user who may list and
# read it, and nothing else. The paths are arguments for the sake of whoever tries it without a container.
set -eu
secrets=${1:-/run/secrets} certificates=${2:-/certs} data=${3:-/data} address=${4:-0.0.0.0} port=${5:-9000}

umask 077
identities=$(mktemp)
cat > "$identities" <<JSON
{"identities": [
  {"name": "root", "actions": ["Admin"],
   "credentials": [{"accessKey": "root-of-minio", "secretKey": "$(cat "$secrets/minio_root_password")"}]},
  {"name": "ingest", "actions": ["Read:statements", "List:statements"],
   "credentials": [{"accessKey": "ingest", "secretKey": "$(cat "$secrets/s3_secret_key")"}]}
]}
JSON
exec weed -logtostderr=true mini -dir="$data" -bucket=statements -ip=127.0.0.1 -ip.bind="$address" \
    -s3.config="$identities" -s3.port.https="$port" \
    -s3.cert.file="$certificates/public.crt" -s3.key.file="$certificates/private.key" \
    -admin.ui=false -webdav=false -master.telemetry=false
