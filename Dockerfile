# slime's published image with the supported slime commit checked out and the patch applied and verified: docs/docker.md.
#   docker build -t ta-opd .
#   docker build -t ta-opd --build-arg SLIME_IMAGE_TAG=TAG@sha256:DIGEST .

ARG SLIME_IMAGE=slimerl/slime
ARG SLIME_IMAGE_TAG=nightly-dev-20260804a
FROM ${SLIME_IMAGE}:${SLIME_IMAGE_TAG}

# v0.3.1; docs/docker.md has the commit and the image of every supported version.
ARG SLIME_COMMIT=a6272da0d4f3d0a08520c99a2f3b4f6c887960dc
ARG SLIME_REPOSITORY=https://github.com/THUDM/slime.git
ARG USER_ID=1000

# slime's image installs both, editable, under /root.
ENV SLIME_DIR=/root/slime \
    MEGATRON_LM_DIR=/root/Megatron-LM \
    TA_OPD_DIR=/opt/ta-opd
ENV PYTHONPATH=${MEGATRON_LM_DIR}:${SLIME_DIR}:${TA_OPD_DIR}/launch:${TA_OPD_DIR}/diagnostics

LABEL org.opencontainers.image.title="ta-opd" \
      org.opencontainers.image.description="slime with the teachability-aware on-policy distillation patch" \
      org.opencontainers.image.licenses="Apache-2.0" \
      slime.commit="${SLIME_COMMIT}"

# pip leaves alone what the image has in a version that will do.
RUN --mount=type=bind,source=slime_patch/ta_opd/requirements.txt,target=/tmp/requirements.txt \
    python -m pip install --no-cache-dir --upgrade-strategy only-if-needed --requirement /tmp/requirements.txt

# A release's image has been published with another commit than its tag names, so the commit is fetched and compared.
RUN git -C "${SLIME_DIR}" fetch --depth 1 "${SLIME_REPOSITORY}" "${SLIME_COMMIT}" && \
    git -C "${SLIME_DIR}" checkout --quiet --detach FETCH_HEAD && \
    test "$(git -C "${SLIME_DIR}" rev-parse HEAD)" = "${SLIME_COMMIT}"

COPY . ${TA_OPD_DIR}

RUN python "${TA_OPD_DIR}/tools/install_patch.py" apply --slime-dir "${SLIME_DIR}" && \
    python "${TA_OPD_DIR}/tools/install_patch.py" verify --slime-dir "${SLIME_DIR}"

# /root is closed to others in the base; x lets them through it without letting them list it.
RUN chmod o+x /root && \
    git config --system --add safe.directory "${SLIME_DIR}" && \
    useradd --create-home --non-unique --uid "${USER_ID}" opd && \
    install --directory --owner "${USER_ID}" /workspace

ENV HOME=/home/opd
USER ${USER_ID}
WORKDIR /workspace

# Found and readable by that user; nothing is imported, as there is no GPU driver while an image is built.
RUN python "${TA_OPD_DIR}/tools/install_patch.py" verify --slime-dir "${SLIME_DIR}" && \
    for name in torch sglang ray megatron.core slime ta_opd run_plan fixed_context; do \
      python -c 'import importlib.util as u, sys; open(u.find_spec(sys.argv[1]).origin).close()' "${name}" || exit 1; \
    done

HEALTHCHECK --interval=5m --timeout=2m --start-period=30s --retries=3 \
    CMD ["python", "/opt/ta-opd/tools/doctor.py", "--static"]

CMD ["/bin/bash"]
