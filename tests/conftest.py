"""Real parts for the tests: an S3 server, PostgreSQL, moto's server; started once for each worker, ended by fixture."""

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.brokers",
    "tests.fixtures.verify_service",
    "tests.faults.rig",
]
