# CPU:  docker build -t ttp_jax .
# GPU:  docker build --build-arg EXTRA=gpu -t ttp_jax:cuda .   (CUDA 13 comes with jax's packages;
#       the host needs NVIDIA driver 580 or newer and the NVIDIA Container Toolkit)
# Run:  docker run --rm -v "$PWD:/work" -w /work --user "$(id -u):$(id -g)" ttp_jax doctor
FROM python:3.11.14-slim-bookworm

# Any user may write there: compiled programs are kept below the home folder.
ENV HOME=/home/ttp
RUN useradd --uid 1000 --create-home --home-dir "$HOME" ttp && chmod 777 "$HOME"

WORKDIR /ttp_jax
# First, so that this layer stays while only the program changes.
COPY requirements.txt ./
RUN pip install --no-cache-dir -r requirements.txt

ARG EXTRA=""
COPY . .
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ".${EXTRA:+[$EXTRA]}"

ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1000
ENTRYPOINT ["ttp"]
CMD ["doctor"]
