"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _datasets()
    _device_events()
    _devices()
    _drift_cursor()
    _drift_devices()
    _drift_episodes()
    _drift_windows()
    _landing()
    _models()
    _quarantine()
    _retired_devices()
    _rollouts()
    _streams()
    _training_jobs()
    _training_slots()
    _training_specs()
    _training_triggers()
    _device_labels()
    _enrollment_tokens()
    _model_versions()
    _rollout_devices()
    _samples()
    _training_lines()
    _model_aliases()
    _model_variants()


def _datasets() -> None:
    op.create_table(
        "datasets",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name="pk_datasets"),
    )


def _device_events() -> None:
    op.create_table(
        "device_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_device_events"),
    )
    op.create_index("ix_device_events_device_id", "device_events", ["device", "id"], unique=False)
    op.create_index("ix_device_events_tenant_id", "device_events", ["tenant", "id"], unique=False)


def _devices() -> None:
    op.create_table(
        "devices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("board", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("enrolled_at", sa.BigInteger(), nullable=True),
        sa.Column("certificate_serial", sa.Text(), nullable=True),
        sa.Column("presence", sa.Integer(), nullable=True),
        sa.Column("status_boot", sa.Text(), nullable=True),
        sa.Column("status_at", sa.BigInteger(), nullable=True),
        sa.Column("last_seen", sa.BigInteger(), nullable=True),
        sa.Column("desired_generation", sa.BigInteger(), nullable=False),
        sa.Column("desired_name", sa.Text(), nullable=True),
        sa.Column("desired_version", sa.Integer(), nullable=True),
        sa.Column("desired_manifest", sa.Text(), nullable=True),
        sa.Column("desired_manifest_bytes", sa.Integer(), nullable=True),
        sa.Column("desired_rollout", sa.Text(), nullable=False),
        sa.Column("delivered_generation", sa.BigInteger(), nullable=False),
        sa.Column("reported", sa.LargeBinary(), nullable=True),
        sa.Column("reported_name", sa.Text(), nullable=True),
        sa.Column("reported_version", sa.Integer(), nullable=True),
        sa.Column("reported_manifest", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
    )
    op.create_index("ix_devices_tenant_id", "devices", ["tenant", "id"], unique=False)


def _drift_cursor() -> None:
    op.create_table(
        "drift_cursor",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("landing_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_drift_cursor"),
    )


def _drift_devices() -> None:
    op.create_table(
        "drift_devices",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("event_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("late", sa.BigInteger(), nullable=False),
        sa.Column("future", sa.BigInteger(), nullable=False),
        sa.Column("unknown", sa.BigInteger(), nullable=False),
        sa.Column("drifted", sa.Integer(), nullable=False),
        sa.Column("quiet", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("device", name="pk_drift_devices"),
    )


def _drift_episodes() -> None:
    op.create_table(
        "drift_episodes",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("told", sa.Boolean(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_drift_episodes"),
        sa.UniqueConstraint("id", name="uq_drift_episodes_id"),
    )
    op.create_index("ix_drift_episodes_device", "drift_episodes", ["device"], unique=False)
    op.create_index("ix_drift_episodes_tenant_model", "drift_episodes", ["tenant", "model"], unique=False)


def _drift_windows() -> None:
    op.create_table(
        "drift_windows",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("start_ms", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("end_ms", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("readings", sa.Integer(), nullable=False),
        sa.Column("label_counts", sa.Text(), nullable=False),
        sa.Column("confidence_counts", sa.Text(), nullable=False),
        sa.Column("confidence_sum", sa.Float(), nullable=False),
        sa.Column("label_psi", sa.Float(), nullable=False),
        sa.Column("confidence_psi", sa.Float(), nullable=False),
        sa.Column("confidence_shift", sa.Float(), nullable=False),
        sa.Column("drifted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("device", "model", "version", "start_ms", name="pk_drift_windows"),
    )
    op.create_index("ix_drift_windows_closed_end_ms", "drift_windows", ["closed", "end_ms"], unique=False)
    op.create_index("ix_drift_windows_device_closed_end_ms", "drift_windows", ["device", "closed", "end_ms"], unique=False)
    op.create_index("ix_drift_windows_tenant_model_end_ms", "drift_windows", ["tenant", "model", "end_ms"], unique=False)


def _landing() -> None:
    op.create_table(
        "landing",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("first_sequence", sa.BigInteger(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("records", sa.Integer(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("first_captured_ms", sa.BigInteger(), nullable=True),
        sa.Column("last_captured_ms", sa.BigInteger(), nullable=True),
        sa.Column("received_ms", sa.BigInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_landing"),
        sa.UniqueConstraint("device", "epoch", "lane", "first_sequence", name="uq_landing_device_epoch_lane_first_sequence"),
    )
    op.create_index(
        "ix_landing_device_first_captured_ms_last_captured_ms",
        "landing",
        ["device", "first_captured_ms", "last_captured_ms"],
        unique=False,
    )


def _models() -> None:
    op.create_table(
        "models",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("reserved", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name="pk_models"),
    )


def _quarantine() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("messages", sa.BigInteger(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_quarantine"),
        sa.UniqueConstraint("topic", "digest", name="uq_quarantine_topic_digest"),
    )
    op.create_index("ix_quarantine_tenant_id", "quarantine", ["tenant", "id"], unique=False)


def _retired_devices() -> None:
    op.create_table(
        "retired_devices",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("delivered_generation", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_retired_devices"),
    )


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("selector", sa.Text(), nullable=False),
        sa.Column("canary", sa.Integer(), nullable=False),
        sa.Column("soak_s", sa.Integer(), nullable=False),
        sa.Column("max_failures", sa.Integer(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("waves", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("champion_before", sa.Integer(), nullable=True),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.UniqueConstraint("number", name="uq_rollouts_number"),
    )
    op.create_index("ix_rollouts_state", "rollouts", ["state"], unique=False)


def _streams() -> None:
    op.create_table(
        "streams",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("epoch", sa.Text(), nullable=False),
        sa.Column("lane", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("committed_through", sa.BigInteger(), nullable=False),
        sa.Column("highest", sa.BigInteger(), nullable=False),
        sa.Column("behind_hole", sa.BigInteger(), nullable=True),
        sa.Column("passes", sa.Integer(), nullable=False),
        sa.Column("pass_ms", sa.BigInteger(), nullable=False),
        sa.Column("batches", sa.BigInteger(), nullable=False),
        sa.Column("records", sa.BigInteger(), nullable=False),
        sa.Column("duplicates", sa.BigInteger(), nullable=False),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
        sa.Column("payload_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_captured_ms", sa.BigInteger(), nullable=True),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("device", "epoch", "lane", name="pk_streams"),
    )


def _training_jobs() -> None:
    op.create_table(
        "training_jobs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("trigger_detail", sa.Text(), nullable=False),
        sa.Column("spec_yaml", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("published_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("number", name="pk_training_jobs"),
        sa.UniqueConstraint("id", name="uq_training_jobs_id"),
    )
    op.create_index("ix_training_jobs_tenant_model_number", "training_jobs", ["tenant", "model", "number"], unique=False)
    op.create_index(
        "uq_training_jobs_active",
        "training_jobs",
        ["tenant", "model"],
        unique=True,
        sqlite_where=sa.text("state IN (1, 2)"),
        postgresql_where=sa.text("state IN (1, 2)"),
    )


def _training_slots() -> None:
    op.create_table(
        "training_slots",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("due", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model", "due", name="pk_training_slots"),
    )


def _training_specs() -> None:
    op.create_table(
        "training_specs",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("yaml", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model", name="pk_training_specs"),
    )


def _training_triggers() -> None:
    op.create_table(
        "training_triggers",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("trigger", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "model", "trigger", name="pk_training_triggers"),
    )


def _device_labels() -> None:
    op.create_table(
        "device_labels",
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_device_labels_device", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("device", "key", name="pk_device_labels"),
    )
    op.create_index("ix_device_labels_key_value", "device_labels", ["key", "value"], unique=False)


def _enrollment_tokens() -> None:
    op.create_table(
        "enrollment_tokens",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["device"], ["devices.id"], name="fk_enrollment_tokens_device", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("digest", name="pk_enrollment_tokens"),
    )
    op.create_index("ix_enrollment_tokens_device", "enrollment_tokens", ["device"], unique=False)


def _model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("baseline", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "name"], ["models.tenant", "models.name"], name="fk_model_versions_tenant_name"),
        sa.PrimaryKeyConstraint("tenant", "name", "version", name="pk_model_versions"),
    )
    op.create_index("ix_model_versions_job_id", "model_versions", ["job_id"], unique=False)


def _rollout_devices() -> None:
    op.create_table(
        "rollout_devices",
        sa.Column("rollout", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("wave", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("previous_name", sa.Text(), nullable=True),
        sa.Column("previous_version", sa.Integer(), nullable=True),
        sa.Column("previous_manifest", sa.Text(), nullable=True),
        sa.Column("previous_manifest_bytes", sa.Integer(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_devices_rollout"),
        sa.PrimaryKeyConstraint("rollout", "device", name="pk_rollout_devices"),
    )
    op.create_index("ix_rollout_devices_device", "rollout_devices", ["device"], unique=False)


def _samples() -> None:
    op.create_table(
        "samples",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=True),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("predicted", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Float(), nullable=False),
        sa.Column("captured_at", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("labelled_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["tenant", "dataset"], ["datasets.tenant", "datasets.name"], name="fk_samples_tenant_dataset"),
        sa.PrimaryKeyConstraint("number", name="pk_samples"),
        sa.UniqueConstraint("id", name="uq_samples_id"),
        sa.UniqueConstraint("tenant", "dataset", "digest", name="uq_samples_tenant_dataset_digest"),
    )
    op.create_index("ix_samples_tenant_dataset_labelled_at", "samples", ["tenant", "dataset", "labelled_at"], unique=False)
    op.create_index("ix_samples_tenant_dataset_number", "samples", ["tenant", "dataset", "number"], unique=False)


def _training_lines() -> None:
    op.create_table(
        "training_lines",
        sa.Column("job_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["training_jobs.id"], name="fk_training_lines_job_id"),
        sa.PrimaryKeyConstraint("job_id", "number", name="pk_training_lines"),
    )


def _model_aliases() -> None:
    op.create_table(
        "model_aliases",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "name", "version"],
            ["model_versions.tenant", "model_versions.name", "model_versions.version"],
            name="fk_model_aliases_tenant_name_version",
        ),
        sa.PrimaryKeyConstraint("tenant", "name", "alias", name="pk_model_aliases"),
    )


def _model_variants() -> None:
    op.create_table(
        "model_variants",
        sa.Column("tenant", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("manifest_digest", sa.Text(), nullable=False),
        sa.Column("manifest_size_bytes", sa.Integer(), nullable=False),
        sa.Column("artifact_digest", sa.Text(), nullable=False),
        sa.Column("artifact_size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("golden_digest", sa.Text(), nullable=False),
        sa.Column("accuracy", sa.Float(), nullable=False),
        sa.Column("latency_p50_ms", sa.Float(), nullable=False),
        sa.Column("output_error", sa.Float(), nullable=False),
        sa.Column("boards", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "name", "version"],
            ["model_versions.tenant", "model_versions.name", "model_versions.version"],
            name="fk_model_variants_tenant_name_version",
        ),
        sa.PrimaryKeyConstraint("tenant", "name", "version", "target", name="pk_model_variants"),
    )
    op.create_index("ix_model_variants_manifest_digest", "model_variants", ["manifest_digest"], unique=False)
