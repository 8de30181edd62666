# The service, on the processor: see docs/guides/phone.md.
FROM python:3.12-slim AS build
COPY . /src
# The project's own wheel, and what it needs in the versions that are tested.
RUN pip install --no-cache-dir --target /site -c /src/constraints.txt "/src[serve]"

FROM python:3.12-slim
COPY --from=build /site /site
ENV PYTHONPATH=/site PYTHONUNBUFFERED=1 TMPDIR=/tmp
USER nobody
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/health')"]
ENTRYPOINT ["python", "-m", "relocalize", "serve", "--host", "0.0.0.0"]
