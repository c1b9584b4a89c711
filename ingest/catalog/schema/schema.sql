CREATE TABLE alembic_version (
        version_num VARCHAR(32) NOT NULL,
        CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE sources (
        id INTEGER NOT NULL,
        endpoint TEXT NOT NULL,
        bucket TEXT NOT NULL,
        listing_order VARCHAR(16) DEFAULT 'unknown' NOT NULL,
        last_complete_sync VARCHAR(32), directory TEXT, directory_id VARCHAR(32), forgotten_at VARCHAR(32), etags TEXT, clock_at VARCHAR(32), seen BIGINT DEFAULT '0' NOT NULL, order_since VARCHAR(32), order_reason TEXT, order_lapses INTEGER DEFAULT '0' NOT NULL, order_proofs INTEGER DEFAULT '0' NOT NULL,
        CONSTRAINT pk_sources PRIMARY KEY (id),
        CONSTRAINT uq_sources_endpoint UNIQUE (endpoint, bucket)
);

CREATE TABLE objects (
        source_id INTEGER NOT NULL,
        "key" TEXT NOT NULL,
        size BIGINT NOT NULL,
        etag TEXT NOT NULL,
        last_modified VARCHAR(32) NOT NULL,
        version_id TEXT,
        storage_class TEXT,
        source_s3_path TEXT NOT NULL,
        state VARCHAR(16) NOT NULL,
        local_path TEXT,
        digest TEXT,
        verified VARCHAR(16),
        downloaded_at VARCHAR(32),
        pruned_at VARCHAR(32),
        gone_at VARCHAR(32),
        hold BOOLEAN DEFAULT 0 NOT NULL,
        attempts INTEGER DEFAULT '0' NOT NULL,
        last_error TEXT, announced_etag TEXT, version TEXT, listed_etag TEXT, seen BIGINT DEFAULT '0' NOT NULL, seen_at VARCHAR(32), seen_in BIGINT,
        CONSTRAINT pk_objects PRIMARY KEY (source_id, "key"),
        CONSTRAINT fk_objects_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
)
 WITHOUT ROWID;

CREATE TABLE runs (
        id INTEGER NOT NULL,
        source_id INTEGER NOT NULL,
        command TEXT NOT NULL,
        arguments JSON NOT NULL,
        host TEXT NOT NULL,
        pid INTEGER NOT NULL,
        started_at VARCHAR(32) NOT NULL,
        heartbeat_at VARCHAR(32) NOT NULL,
        finished_at VARCHAR(32),
        status VARCHAR(16) NOT NULL,
        counts JSON NOT NULL,
        error TEXT, audit_id BIGINT, audit_hash VARCHAR(64), written BIGINT DEFAULT '0' NOT NULL, process TEXT, clock_ahead BIGINT,
        CONSTRAINT pk_runs PRIMARY KEY (id),
        CONSTRAINT fk_runs_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);

CREATE TABLE shards (
        run_id INTEGER NOT NULL,
        prefix TEXT NOT NULL,
        level BOOLEAN NOT NULL,
        start_after TEXT NOT NULL,
        "end" TEXT,
        cursor TEXT NOT NULL,
        done BOOLEAN NOT NULL,
        CONSTRAINT pk_shards PRIMARY KEY (run_id, prefix, level, start_after),
        CONSTRAINT fk_shards_run_id FOREIGN KEY(run_id) REFERENCES runs (id)
);

CREATE TABLE pages (
        source_id INTEGER NOT NULL,
        prefix TEXT NOT NULL,
        start_after TEXT NOT NULL,
        last_key TEXT NOT NULL,
        listed INTEGER NOT NULL,
        skipped INTEGER NOT NULL,
        fingerprint BLOB NOT NULL,
        filters BLOB NOT NULL, vouched INTEGER DEFAULT '0' NOT NULL,
        CONSTRAINT pk_pages PRIMARY KEY (source_id, prefix, start_after),
        CONSTRAINT fk_pages_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);

CREATE TABLE events (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        at VARCHAR(32) NOT NULL,
        run_id INTEGER NOT NULL,
        source_id INTEGER NOT NULL,
        "key" TEXT NOT NULL,
        what VARCHAR(16) NOT NULL,
        detail TEXT NOT NULL,
        prev_hash VARCHAR(64) NOT NULL,
        hash VARCHAR(64) NOT NULL,
        CONSTRAINT fk_events_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);

CREATE INDEX ix_events_source_id ON events (source_id, "key");

CREATE TABLE deliveries (
        id INTEGER NOT NULL,
        source_id INTEGER NOT NULL,
        "key" TEXT NOT NULL,
        etag TEXT NOT NULL,
        target TEXT NOT NULL,
        state VARCHAR(16) NOT NULL,
        attempts INTEGER DEFAULT '0' NOT NULL,
        next_attempt_at VARCHAR(32),
        response_status INTEGER,
        response TEXT, fields JSON DEFAULT '{}' NOT NULL, created_at VARCHAR(32), delivered_at VARCHAR(32), claimed_by TEXT, claimed_until VARCHAR(32), last_error TEXT,
        CONSTRAINT pk_deliveries PRIMARY KEY (id),
        CONSTRAINT uq_deliveries_source_id UNIQUE (source_id, "key", etag, target),
        CONSTRAINT fk_deliveries_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);

CREATE TABLE holds (
        id INTEGER NOT NULL,
        source_id INTEGER NOT NULL,
        "key" TEXT NOT NULL,
        is_prefix BOOLEAN NOT NULL,
        reason TEXT NOT NULL,
        placed_by TEXT NOT NULL,
        placed_at VARCHAR(32) NOT NULL,
        CONSTRAINT pk_holds PRIMARY KEY (id),
        CONSTRAINT uq_holds_source_id UNIQUE (source_id, is_prefix, "key"),
        CONSTRAINT fk_holds_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);

CREATE INDEX ix_deliveries_state ON deliveries (source_id, state, next_attempt_at);

CREATE TABLE dead_letters (
        id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
        source_id INTEGER NOT NULL,
        topic TEXT NOT NULL,
        partition INTEGER NOT NULL,
        "offset" BIGINT NOT NULL,
        message_key TEXT,
        value TEXT,
        headers JSON NOT NULL,
        "key" TEXT,
        state VARCHAR(16) NOT NULL,
        reason VARCHAR(32) NOT NULL,
        attempts JSON NOT NULL,
        first_at VARCHAR(32) NOT NULL,
        next_attempt_at VARCHAR(32), publish_at VARCHAR(32),
        CONSTRAINT uq_dead_letters_source_id UNIQUE (source_id, topic, partition, "offset"),
        CONSTRAINT fk_dead_letters_source_id FOREIGN KEY(source_id) REFERENCES sources (id)
);

CREATE INDEX ix_dead_letters_state ON dead_letters (state, next_attempt_at);

CREATE INDEX ix_dead_letters_key ON dead_letters ("key");

CREATE TABLE installation (
        number INTEGER NOT NULL,
        catalog_id VARCHAR(32) NOT NULL,
        made_at VARCHAR(32) NOT NULL,
        CONSTRAINT pk_installation PRIMARY KEY (number)
);

CREATE TABLE directories (
        id VARCHAR(32) NOT NULL,
        path TEXT NOT NULL,
        host TEXT NOT NULL,
        inode TEXT NOT NULL,
        catalog_place TEXT NOT NULL,
        seen_at VARCHAR(32) NOT NULL,
        CONSTRAINT pk_directories PRIMARY KEY (id)
);

CREATE UNIQUE INDEX uq_sources_directory ON sources (directory);

CREATE INDEX ix_dead_letters_publish_at ON dead_letters (publish_at);

CREATE INDEX ix_dead_letters_reason ON dead_letters (source_id, reason);

CREATE INDEX ix_runs_source_id ON runs (source_id, id);

CREATE INDEX ix_runs_command ON runs (source_id, command, id);

CREATE INDEX ix_runs_running ON runs (id) WHERE status = 'running';

INSERT INTO alembic_version (version_num) VALUES ('0015');
