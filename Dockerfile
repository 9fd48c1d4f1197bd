# medssl in a container: no weights and no data inside, a user without rights, and a root file
# system that may be read-only:
#
#   docker build -t medssl .
#   docker run --rm --read-only --tmpfs /tmp --network none \
#     -v /path/to/scans:/data/in:ro -v /path/to/work:/data medssl ingest in store
#
# Build arguments:
#   TORCH_INDEX  the package index to take torch from. PyTorch publishes one with CPU builds (the
#                smallest image) and one per CUDA version. Empty: the default index; its build for
#                x86-64 brings CUDA along and computes on the CPU where there is no GPU.
#   EXTRAS       optional parts of medssl, such as [jpeg] (JPEG lossless and JPEG-LS; GPL-3.0).

FROM python:3.11-slim AS build
WORKDIR /opt/medssl/build
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir dist .

FROM python:3.11-slim
ARG TORCH_INDEX=
ARG EXTRAS=
WORKDIR /opt/medssl
COPY constraints.txt .
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "$(grep '^torch==' constraints.txt)"
COPY --from=build /opt/medssl/build/dist dist
RUN pip install --no-cache-dir --constraint constraints.txt "$(ls dist/*.whl)$EXTRAS" && rm -r dist

# A user that exists nowhere needs a name and a home; everything written goes to /tmp or a volume.
ENV HOME=/tmp USER=medssl LOGNAME=medssl MPLCONFIGDIR=/tmp/matplotlib XDG_CACHE_HOME=/tmp/cache
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# Nothing calls home.
ENV MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true STREAMLIT_BROWSER_GATHER_USAGE_STATS=false

LABEL org.opencontainers.image.title="medssl" org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["medssl"]
CMD ["--help"]
