"""The Triton kernels of triton_kernels.entry_sums and gradient: one program a row, both normalisers known.

S, T, Q: student, teacher, TAID's target; lp, lt, lq: their log-probs in bits, not below LOG_FLOOR; M = weight Q +
(1 - weight) S. A teacher, rows or token_columns of None is not read.
"""

from __future__ import annotations

from .triton_tiles import BITS, FLOOR, at_least, by_lane, jit, lane_sum, load, log2, tl


@jit
def log_probs(student, teacher, columns, scale, lse_s, lse_t, shift, taid_t, COLUMNS, TAID, TAIL):
    """lp, lt, lq and where the student's logit is -inf, all [TILE]; shift = lse_Q - (1 - t) lse_S - t lse_T.

    Columns that are not there come out at the floor, with probabilities of 2^-125.
    """
    s = load(student, columns, COLUMNS, TAIL) * scale
    lp = at_least(s - lse_s, FLOOR * BITS)
    lt = at_least(load(teacher, columns, COLUMNS, TAIL) * scale - lse_t, FLOOR * BITS)
    lq = lt
    if TAID == "logit":
        lq = at_least(lp + taid_t * (lt - lp) - shift, FLOOR * BITS)
    if TAID == "prob":
        lq = lt + log2(taid_t + (1 - taid_t) * tl.exp2(lp - lt))
    return lp, lt, lq, s == -float("inf")


@jit
def entries(lp, lq, weight, clip, KIND: tl.constexpr, CLIP: tl.constexpr):
    """p, q, a divergence's entries e and u = de / dlp, the last two in bits."""
    q = tl.exp2(lq)
    if KIND is None or KIND == "forward_kl" or KIND == "reverse_kl":
        p = tl.exp2(lp)
        if KIND == "reverse_kl":
            e = p * (lp - lq)
            u = e + p * BITS
        else:
            e = q * (lq - lp)
            u = -q * BITS
    else:
        ratio = tl.exp2(lp - lq)
        p = q * ratio
        mixture = weight + (1 - weight) * ratio  # m / q
        above = log2(mixture)  # lm - lq
        if KIND == "jsd":
            u = (1 - weight) * p * (lp - lq - above)
            e = u - weight * q * above
        elif KIND == "skew_reverse_kl":
            e = p * (lp - lq - above)
            u = e + weight * BITS * p / mixture  # 1 - (1 - w) p / m = w q / m
        else:
            e = -q * above
            u = -(1 - weight) * BITS * p / mixture
    if CLIP:
        u = tl.where(e > clip, 0.0, u)
        e = tl.minimum(e, clip)
    return p, q, e, u


@jit
def row_normalisers(normalisers, index, taid_t):
    """lse_S, lse_T and shift of a row, in bits."""
    lse_s = tl.load(normalisers + index * 3) * BITS
    lse_t = tl.load(normalisers + index * 3 + 1) * BITS
    return lse_s, lse_t, tl.load(normalisers + index * 3 + 2) * BITS - lse_s - taid_t * (lse_t - lse_s)


@jit
def entry_sums_kernel(
    student,
    teacher,
    rows,
    normalisers,
    out,
    student_stride,
    teacher_stride,
    temperature,
    taid_t,
    weight,
    clip,
    COLUMNS: tl.constexpr,
    TAID: tl.constexpr,
    KIND: tl.constexpr,
    CLIP: tl.constexpr,
    TILE: tl.constexpr,
    LANES: tl.constexpr,
    VEC: tl.constexpr,
):
    """`entry_sums` of one row."""
    index = tl.program_id(0).to(tl.int64)
    row = index if rows is None else tl.load(rows + index).to(tl.int64)
    student += row * student_stride
    teacher += row * teacher_stride
    lse_s, lse_t, shift = row_normalisers(normalisers, index, taid_t)
    scale = BITS / temperature

    zero = tl.zeros((LANES,), tl.float32)
    sum_e, sum_u, cross_entropy = zero, zero, zero
    whole: tl.constexpr = COLUMNS // TILE * TILE
    for TAIL in tl.static_range(2):
        for start in range(whole if TAIL else 0, COLUMNS if TAIL else whole, TILE):
            columns = start + tl.arange(0, TILE)
            lp, _, lq, impossible = log_probs(
                student, teacher, columns, scale, lse_s, lse_t, shift, taid_t, COLUMNS, TAID, TAIL
            )
            _, q, e, u = entries(lp, lq, weight, clip * BITS, KIND, CLIP)
            sum_e += lane_sum(by_lane(e, LANES, VEC))
            sum_u += lane_sum(by_lane(tl.where(impossible, 0.0, u), LANES, VEC))
            cross_entropy -= lane_sum(by_lane(q * lp, LANES, VEC))
    tl.store(out + index * 3, tl.sum(sum_e, 0) / BITS)
    tl.store(out + index * 3 + 1, tl.sum(sum_u, 0) / BITS)
    tl.store(out + index * 3 + 2, tl.sum(cross_entropy, 0) / BITS)


@jit
def gradient_kernel(
    student,
    teacher,
    normalisers,
    coefficients,
    token_columns,
    out,
    student_stride,
    teacher_stride,
    out_stride,
    temperature,
    taid_t,
    weight,
    clip,
    COLUMNS: tl.constexpr,
    TAID: tl.constexpr,
    KIND: tl.constexpr,
    CLIP: tl.constexpr,
    TILE: tl.constexpr,
):
    """One row of ds / temperature, ds = p (A + B (s - t) + C s) - F q + L [v = token] + J u."""
    row = tl.program_id(0).to(tl.int64)
    student += row * student_stride
    out += row * out_stride
    coefficients += row * 6
    a = tl.load(coefficients) / temperature
    b = tl.load(coefficients + 1) / temperature
    c = tl.load(coefficients + 2) / temperature
    f = tl.load(coefficients + 3) / temperature
    at_token = tl.load(coefficients + 4) / temperature
    j = tl.load(coefficients + 5) / temperature
    whole: tl.constexpr = COLUMNS // TILE * TILE
    if (a == 0) & (b == 0) & (c == 0) & (f == 0) & (at_token == 0) & (j == 0):
        for start in range(0, COLUMNS, TILE):
            columns = start + tl.arange(0, TILE)
            tl.store(out + columns, tl.zeros((TILE,), out.dtype.element_ty), mask=columns < COLUMNS)
        return

    lse_s, lse_t, shift = row_normalisers(normalisers, row, taid_t)
    scale = BITS / temperature
    if teacher is not None:
        teacher += row * teacher_stride
    if token_columns is not None:
        token = tl.load(token_columns + row)
    b, c, j = b / BITS, c / BITS, j / BITS  # what they multiply is in bits
    a += b * (lse_s - lse_t) + c * lse_s  # s - t = lp - lt + lse_S - lse_T, s = lp + lse_S
    for TAIL in tl.static_range(2):
        for start in range(whole if TAIL else 0, COLUMNS if TAIL else whole, TILE):
            columns = start + tl.arange(0, TILE)
            if teacher is None:
                s = load(student, columns, COLUMNS, TAIL) * scale
                lp = at_least(s - lse_s, FLOOR * BITS)
                impossible = s == -float("inf")
                ds = tl.exp2(lp) * (a + c * lp)
            else:
                lp, lt, lq, impossible = log_probs(
                    student, teacher, columns, scale, lse_s, lse_t, shift, taid_t, COLUMNS, TAID, TAIL
                )
                p, q, _, u = entries(lp, lq, weight, clip * BITS, KIND, CLIP)
                ds = p * (a + b * (lp - lt) + c * lp) - f * q
                if KIND is not None:
                    ds += j * u
            if token_columns is not None:
                ds += tl.where(columns == token, at_token, 0.0)
            ds = tl.where(impossible, 0.0, ds).to(out.dtype.element_ty)
            if TAIL:
                tl.store(out + columns, ds, mask=columns < COLUMNS)
            else:
                tl.store(out + columns, ds)
