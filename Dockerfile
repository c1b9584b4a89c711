# Built in two steps, so that the image holds neither compilers nor caches; runs as an ordinary user.
FROM python:3.12-slim AS build
WORKDIR /build
COPY requirements.lock pyproject.toml README.md LICENSE ./
COPY ingest ingest
COPY migrations migrations
RUN python -m venv /opt/ingest \
 && /opt/ingest/bin/pip install --no-cache-dir --require-hashes -r requirements.lock \
 && /opt/ingest/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --home-dir /data ingest && install -d -o ingest -g ingest -m 0750 /data
COPY --from=build /opt/ingest /opt/ingest
USER ingest
WORKDIR /data
VOLUME /data
ENV PATH=/opt/ingest/bin:$PATH INGEST_DATA_DIR=/data
ENTRYPOINT ["ingest"]
CMD ["--help"]
