# Built in two steps, so that the image holds no caches and no sources; runs as an ordinary user.
FROM python:3.12-slim AS build
WORKDIR /build
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/ingest
COPY requirements-run.lock ./
RUN /opt/ingest/bin/pip install --no-cache-dir --require-hashes -r requirements-run.lock
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY ingest ingest
COPY migrations migrations
RUN /opt/ingest/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data ingest && install -d -o ingest -g ingest -m 0750 /data
COPY --from=build /opt/ingest /opt/ingest
COPY --chmod=0755 docker/nightly.sh /usr/local/bin/ingest-nightly
USER ingest
WORKDIR /data
VOLUME /data
ENV PATH=/opt/ingest/bin:$PATH PYTHONUNBUFFERED=1 INGEST_DATA_DIR=/data
ENTRYPOINT ["ingest"]
CMD ["--help"]
