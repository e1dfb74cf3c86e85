# CPU:  docker build -t covermap .
# CUDA: docker build -t covermap --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 .
# The locked torch carries its own CUDA libraries, so both images hold the same packages; the CUDA
# base adds what the container runtime looks for.
ARG BASE=python:3.12-slim
FROM ${BASE}

RUN if ! command -v python3 >/dev/null || ! python3 -c 'import venv, ensurepip' 2>/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends python3 python3-venv python3-pip \
      && rm -rf /var/lib/apt/lists/*; fi
# rasterio's wheels take libexpat from the system; g++ serves --compile.
RUN apt-get update && apt-get install -y --no-install-recommends g++ make libexpat1 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/covermap
COPY pyproject.toml requirements.lock Makefile README.md LICENSE ./
COPY src ./src
RUN make VENV=/opt/venv all && rm -rf /root/.cache
ENV PATH=/opt/venv/bin:$PATH

RUN useradd --create-home mapper
USER mapper
WORKDIR /data
ENTRYPOINT ["covermap"]
CMD ["--help"]
