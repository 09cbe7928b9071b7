"""The Triton kernel of triton_kernels.statistics: one program a row, every logit read once, float32 inside."""

from __future__ import annotations

from .triton_tiles import BITS, FLOOR, at_least, by_lane, jit, lane_sum, load, tl


@jit
def lane_min(tile, TAIL: tl.constexpr):
    if TAIL:
        tile = tl.where(tile == -1e32, float("inf"), tile)
    return tl.min(tl.min(tile, 2), 0)


@jit
def accumulate(top, mass, mean, gap, logits, gaps, scale):
    """Adds a tile to each lane's sums of 2^(scale logits - top), alone and times logits and gaps."""
    new_top = tl.maximum(top, tl.max(tl.max(logits, 2), 0) * scale)
    weights = tl.exp2(logits * scale - new_top[None, :, None])
    decay = tl.exp2(top - new_top)
    mass = mass * decay + lane_sum(weights)
    mean = mean * decay + lane_sum(weights * logits)
    gap = gap * decay + lane_sum(weights * gaps)
    return new_top, mass, mean, gap


@jit
def moments(top, mass, mean, gap, temperature):
    """The lanes together: log-sum-exp and the two means. A row without weight: -inf, 0, 0."""
    row_top = tl.max(top, 0)
    decay = tl.exp2(top - row_top)
    total = tl.sum(mass * decay, 0)
    per_unit = tl.where(total == 0, 0.0, 1.0 / (total * temperature))
    lse = (row_top + tl.log2(total)) / BITS
    return lse, tl.sum(mean * decay, 0) * per_unit, tl.sum(gap * decay, 0) * per_unit


@jit
def least_log_prob(low, lse, temperature):
    low = tl.min(low, 0)
    return tl.where(low == -float("inf"), low, low / temperature - lse)


@jit
def statistics_kernel(
    student,
    teacher,
    rows,
    normalisers,
    token_columns,
    out,
    student_stride,
    teacher_stride,
    temperature,
    taid_t,
    COLUMNS: tl.constexpr,
    TAID: tl.constexpr,
    TILE: tl.constexpr,
    LANES: tl.constexpr,
    VEC: tl.constexpr,
):
    """`statistics` of one row. With normalisers a logit counts as at least its normaliser + LOG_FLOOR."""
    index = tl.program_id(0).to(tl.int64)
    row = index if rows is None else tl.load(rows + index).to(tl.int64)
    student += row * student_stride
    out += index * 12
    if teacher is not None:
        teacher += row * teacher_stride
    student_least, teacher_least = -1e32, -1e32
    if normalisers is not None:
        student_least = (tl.load(normalisers + index * 3) + FLOOR) * temperature
        teacher_least = (tl.load(normalisers + index * 3 + 1) + FLOOR) * temperature
    scale = BITS / temperature

    zero = tl.zeros((LANES,), tl.float32)
    top_s, mass_s, mean_s, gap_s = zero - 1e30, zero, zero, zero
    top_t, mass_t, mean_t, gap_t = zero - 1e30, zero, zero, zero
    top_q, mass_q, mean_q, gap_q = zero - 1e30, zero, zero, zero
    low_s, low_t = zero + float("inf"), zero + float("inf")
    whole: tl.constexpr = COLUMNS // TILE * TILE
    for TAIL in tl.static_range(2):
        for start in range(whole if TAIL else 0, COLUMNS if TAIL else whole, TILE):
            columns = start + tl.arange(0, TILE)
            s = by_lane(load(student, columns, COLUMNS, TAIL), LANES, VEC)
            low_s = tl.minimum(low_s, lane_min(s, TAIL))
            s = at_least(s, student_least)
            if teacher is None:
                top_s, mass_s, mean_s, gap_s = accumulate(top_s, mass_s, mean_s, gap_s, s, s, scale)
            else:
                t = by_lane(load(teacher, columns, COLUMNS, TAIL), LANES, VEC)
                low_t = tl.minimum(low_t, lane_min(t, TAIL))
                t = at_least(t, teacher_least)
                gap = s - t
                top_s, mass_s, mean_s, gap_s = accumulate(top_s, mass_s, mean_s, gap_s, s, gap, scale)
                top_t, mass_t, mean_t, gap_t = accumulate(top_t, mass_t, mean_t, gap_t, t, gap, scale)
                if TAID:
                    q = s - taid_t * gap
                    top_q, mass_q, mean_q, gap_q = accumulate(top_q, mass_q, mean_q, gap_q, q, gap, scale)

    lse_s, mean, gap = moments(top_s, mass_s, mean_s, gap_s, temperature)
    tl.store(out, lse_s)
    tl.store(out + 2, mean)
    lowest = least_log_prob(low_s, lse_s, temperature)
    if teacher is not None:
        tl.store(out + 4, gap)
        lse_t, mean, gap = moments(top_t, mass_t, mean_t, gap_t, temperature)
        tl.store(out + 1, lse_t)
        tl.store(out + 3, mean)
        tl.store(out + 5, -gap)
        lowest = tl.minimum(lowest, least_log_prob(low_t, lse_t, temperature))
        lse_q = lse_t
        if TAID:
            lse_q, mean, gap = moments(top_q, mass_q, mean_q, gap_q, temperature)
        tl.store(out + 6, lse_q)
        tl.store(out + 7, mean)
        tl.store(out + 8, -gap)
    if token_columns is not None:
        token = tl.load(token_columns + index)
        tl.store(out + 9, tl.load(student + token, mask=token >= 0, other=0.0).to(tl.float32) / temperature)
        if teacher is not None:
            tl.store(out + 10, tl.load(teacher + token, mask=token >= 0, other=0.0).to(tl.float32) / temperature)
    tl.store(out + 11, lowest)
