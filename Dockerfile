# How to build and run it: docs/docker.md.

FROM python:3.11-slim AS build
WORKDIR /build
RUN python -m venv --without-pip /opt/recoup/.venv
COPY requirements.txt .
RUN pip --python /opt/recoup/.venv install --no-cache-dir --require-hashes --no-deps -r requirements.txt
COPY . .
RUN pip --python /opt/recoup/.venv install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
COPY --from=build /opt/recoup /opt/recoup
WORKDIR /opt/recoup
COPY gunicorn.conf.py wsgi.py ./
# For SQLite. Of group 0, which an arbitrary user belongs to where a platform assigns one.
RUN install -d -o 10001 -g 0 -m 770 /data
# Memory, and there to be written to in a container whose file system is read-only.
ENV PATH=/opt/recoup/.venv/bin:$PATH PORT=8000 TMPDIR=/dev/shm
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --timeout=10s CMD ["python", "-c", "import http.client as h, os; c = h.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=5); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
CMD ["gunicorn"]
