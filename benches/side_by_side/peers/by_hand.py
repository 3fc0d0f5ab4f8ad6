"""A good script by hand: pages four at a time, parsed by orjson, copied into a staging table, merged.

by_hand.py BASE_URL KEY DATABASE_URL LIMIT
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import orjson
import psycopg

base, key, database, limit = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

COLUMNS = {
    "id": "bigint primary key", "employee_number": "text", "first_name": "text",
    "last_name": "text", "preferred_name": "text", "email": "text", "phone": "text",
    "birth_date": "date", "hired_on": "date", "ended_on": "date", "status": "text",
    "job_title": "text", "department": "text", "cost_center": "bigint",
    "employment_type": "text", "weekly_hours": "numeric", "annual_salary": "numeric",
    "currency": "text", "is_manager": "boolean", "works_remotely": "boolean",
    "address": "jsonb", "manager": "jsonb", "skills": "jsonb", "about": "text",
    "revision": "bigint", "created_at": "timestamptz", "updated_at": "timestamptz",
}
NAMES = ", ".join(COLUMNS)
OTHERS = [name for name in COLUMNS if name != "id"]
JSON = {"address", "manager", "skills"}
BATCH = 10_000


def value(record, name):
    found = record.get(name)
    if name in JSON and found is not None:
        return orjson.dumps(found).decode()
    return found


with psycopg.connect(database) as db, httpx.Client(base_url=base) as http:
    with db.cursor() as cursor:
        cursor.execute(
            f"create table if not exists employees ({', '.join(f'{n} {t}' for n, t in COLUMNS.items())})"
        )
        cursor.execute(f"create temp table stage (like employees)")
    db.commit()

    def page(offset):
        answer = http.get(
            "/v1/employees", params={"api_key": key, "offset": offset, "limit": limit}
        )
        answer.raise_for_status()
        return orjson.loads(answer.content)

    def store(records):
        with db.cursor() as cursor:
            with cursor.copy(f"copy stage ({NAMES}) from stdin") as copy:
                for record in records:
                    copy.write_row([value(record, name) for name in COLUMNS])
            cursor.execute(
                f"insert into employees select * from stage on conflict (id) do update set "
                f"{', '.join(f'{n} = excluded.{n}' for n in OTHERS)} "
                f"where ({', '.join(f'employees.{n}' for n in OTHERS)}) "
                f"is distinct from ({', '.join(f'excluded.{n}' for n in OTHERS)})"
            )
            cursor.execute("truncate stage")
        db.commit()

    first = page(0)
    total = first["total"]
    batch = first["data"]
    with ThreadPoolExecutor(4) as pool:
        offsets = range(limit, total, limit)
        # In small groups, so that memory stays bounded.
        for start in range(0, len(offsets), 8):
            for answer in pool.map(page, offsets[start : start + 8]):
                batch.extend(answer["data"])
                if len(batch) >= BATCH:
                    store(batch)
                    batch = []
    if batch:
        store(batch)
