"""dlt's rest_api source into Postgres.

dlt_peer.py BASE_URL KEY DATABASE_URL LIMIT FOLDER default|tuned
"""

import os
import sys

base, key, database, limit, folder, mode = sys.argv[1:7]
# dlt insists on a password, which a private server does not ask for.
database = database.replace("@", ":unused@", 1)
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
os.environ["RUNTIME__LOG_LEVEL"] = "ERROR"
if mode == "tuned":
    # Larger buffers, files written as CSV and copied, no child tables.
    os.environ["DATA_WRITER__BUFFER_MAX_ITEMS"] = "50000"
    os.environ["NORMALIZE__WORKERS"] = "2"
    os.environ["NORMALIZE__DATA_WRITER__FILE_MAX_ITEMS"] = "25000"
    os.environ["EXTRACT__DATA_WRITER__FILE_MAX_ITEMS"] = "50000"

import dlt  # noqa: E402
from dlt.sources.rest_api import rest_api_source  # noqa: E402


def main():
    resource = {
        "name": "employees",
        "primary_key": "id",
        "write_disposition": "merge",
        "endpoint": {
            "path": "v1/employees",
            "data_selector": "data",
            "paginator": {"type": "offset", "limit": int(limit), "total_path": "total"},
        },
    }
    if mode == "tuned":
        resource["write_disposition"] = {"disposition": "merge", "strategy": "upsert"}
        resource["max_table_nesting"] = 0
        resource["file_format"] = "csv"
    source = rest_api_source(
        {
            "client": {
                "base_url": base,
                "auth": {"type": "api_key", "name": "api_key", "api_key": key, "location": "query"},
            },
            "resources": [resource],
        }
    )
    pipeline = dlt.pipeline(
        pipeline_name="bench",
        pipelines_dir=folder,
        destination=dlt.destinations.postgres(database),
        dataset_name="dlt",
    )
    pipeline.run(source)


if __name__ == "__main__":
    main()
