/* The products, norms and attention of a decode step in bfloat16, for CPUs; with QUANTIZED defined, the products with
   quantized weights instead, a library of its own that nobody waits for who has none.

   Compiled on the user's machine by build.py, for exactly its CPU.  Every function is the twin of a few lines of torch
   that stand beside its caller.  Numbers are read as bfloat16, added up in float and rounded once.  What a row of the
   result is depends on that row alone: neither the number of rows, nor of threads, changes a bit of it. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

typedef uint16_t bf16;
typedef int64_t i64;

/* ---- threads: those of the OpenMP runtime that torch has loaded already, so that two pools never fight for a core */

typedef void (*fork_join)(void (*body)(void *), void *data, unsigned num_threads, unsigned flags);

static fork_join fork_and_join;        /* GOMP_parallel */
static int (*own_thread_number)(void); /* omp_get_thread_num */
static int (*team_size)(void);         /* omp_get_num_threads */

void use_threads_of(fork_join fork, int (*thread_number)(void), int (*num_threads)(void)) {
    fork_and_join = fork;
    own_thread_number = thread_number;
    team_size = num_threads;
}

typedef struct {
    void (*work)(void *task, i64 thread, i64 num_threads);
    void *task;
} Team;

static void run_member(void *data) { /* the runtime may give fewer threads than it was asked for */
    Team *team = data;
    team->work(team->task, own_thread_number(), team_size());
}

static void run_team(void (*work)(void *, i64, i64), void *task, i64 num_threads) {
    if (num_threads < 2 || !fork_and_join) {
        work(task, 0, 1);
        return;
    }
    Team team = {work, task};
    fork_and_join(run_member, &team, (unsigned)num_threads, 0);
}

/* ---- bfloat16: the upper half of a float */

/* As many as a register holds: compilers keep longer vectors in memory, at several times the cost. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX2__)
#define LANES 8
#else
#define LANES 4
#endif
typedef float f32s __attribute__((vector_size(4 * LANES)));
typedef uint32_t u32s __attribute__((vector_size(4 * LANES)));
typedef bf16 bf16s __attribute__((vector_size(2 * LANES)));

int lanes(void) { return LANES; }

static inline float widen(bf16 x) {
    uint32_t bits = (uint32_t)x << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

static inline bf16 narrow(float x) { /* to the nearest, ties to even; NaN stays NaN */
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if (x != x) return (bf16)(bits >> 16 | 0x40);
    return (bf16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline f32s widen_many(const bf16 *from) {
    bf16s half;
    memcpy(&half, from, sizeof half);
    return (f32s)(__builtin_convertvector(half, u32s) << 16);
}

static inline void narrow_many(bf16 *to, f32s x) {
    u32s bits = (u32s)x;
    bf16s half = __builtin_convertvector((bits + 0x7fff + (bits >> 16 & 1)) >> 16, bf16s);
    memcpy(to, &half, sizeof half);
}

static inline float sum_lanes(f32s x) {
#if LANES == 8 && defined(__AVX2__) /* in registers; the same order of additions */
    __m128 four = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float total[LANES];
    memcpy(total, &x, sizeof x);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) total[i] += total[i + width];
    return total[0];
#endif
}

static inline f32s all_lanes(float x) { return x - (f32s){0}; }

static inline f32s at_least(f32s x, float least) {
    u32s keep = (u32s)(x >= least), bits = (u32s)all_lanes(least);
    return (f32s)((keep & (u32s)x) | (~keep & bits));
}

/* a tile of a product: so many rows of w times so many of x */
#define MAX_NW 4
#ifdef __AVX512F__
#define MAX_NX 8
#else
#define MAX_NX 4 /* half as many registers */
#endif

#ifndef QUANTIZED
/* ---- products: y = x w^T

   A tile is NW rows of w times NX rows of x, kept in registers while both are read once along k.  The next rows of w
   are asked for ahead: a matrix fresh from a file lies in pages of 4 KiB, at whose ends hardware prefetching stops. */

#ifdef __AVX512BF16__
#define STEP 32
typedef __m512 Sums;
typedef __m512bh Operand;
static inline Operand load(const bf16 *from) { return (Operand)_mm512_loadu_si512(from); }
static inline Operand load_part(const bf16 *from, i64 num) {
    return (Operand)_mm512_maskz_loadu_epi16((__mmask32)((1ull << num) - 1), from);
}
static inline Sums no_sums(void) { return _mm512_setzero_ps(); }
static inline Sums multiply_add(Sums sums, Operand a, Operand b) { return _mm512_dpbf16_ps(sums, a, b); }
static inline float total(Sums sums) { return _mm512_reduce_add_ps(sums); }
#else
#define STEP LANES
typedef f32s Sums;
typedef f32s Operand;
static inline Operand load(const bf16 *from) { return widen_many(from); }
static inline Operand load_part(const bf16 *from, i64 num) {
    bf16 padded[STEP] = {0};
    memcpy(padded, from, 2 * (size_t)num);
    return widen_many(padded);
}
static inline Sums no_sums(void) { return (f32s){0}; }
static inline Sums multiply_add(Sums sums, Operand a, Operand b) { return sums + a * b; }
static inline float total(Sums sums) { return sum_lanes(sums); }
#endif

typedef struct { /* passed from Python as six int64 */
    const bf16 *w; /* [n, k] */
    const bf16 *x; /* [m, k] */
    bf16 *y;       /* [m, n] */
    i64 n, m, k;
} Product;

static inline __attribute__((always_inline)) void
multiply_tile(const int nw, const int nx, const Product *p, i64 row, i64 column) {
    const bf16 *w = p->w + column * p->k, *x = p->x + row * p->k;
    const i64 k = p->k, whole = k - k % STEP, ahead = nw * k;
    Sums sums[MAX_NX][MAX_NW];
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < nw; j++) sums[i][j] = no_sums();
    for (i64 at = 0; at < whole; at += STEP) {
        Operand ws[MAX_NW];
        for (int j = 0; j < nw; j++) {
            ws[j] = load(w + j * k + at);
            if (row == 0) __builtin_prefetch(w + j * k + at + ahead, 0, 2);
        }
        for (int i = 0; i < nx; i++) {
            Operand xs = load(x + i * k + at);
            for (int j = 0; j < nw; j++) sums[i][j] = multiply_add(sums[i][j], ws[j], xs);
        }
    }
    if (whole < k) {
        for (int j = 0; j < nw; j++) {
            Operand wj = load_part(w + j * k + whole, k - whole);
            for (int i = 0; i < nx; i++)
                sums[i][j] = multiply_add(sums[i][j], wj, load_part(x + i * k + whole, k - whole));
        }
    }
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < nw; j++) p->y[(row + i) * p->n + column + j] = narrow(total(sums[i][j]));
}

#define TILES(nw)                                                        \
    static void multiply_##nw(const Product *p, i64 column) {            \
        i64 row = 0;                                                     \
        for (; row + MAX_NX <= p->m; row += MAX_NX) multiply_tile(nw, MAX_NX, p, row, column); \
        switch (p->m - row) {                                            \
        case 7: multiply_tile(nw, 7 % MAX_NX, p, row, column); break;    \
        case 6: multiply_tile(nw, 6 % MAX_NX, p, row, column); break;    \
        case 5: multiply_tile(nw, 5 % MAX_NX, p, row, column); break;    \
        case 4: multiply_tile(nw, 4 % MAX_NX, p, row, column); break;    \
        case 3: multiply_tile(nw, 3, p, row, column); break;             \
        case 2: multiply_tile(nw, 2, p, row, column); break;             \
        case 1: multiply_tile(nw, 1, p, row, column); break;             \
        }                                                                \
    }
TILES(4)
TILES(3)
TILES(1)

typedef struct {
    const Product *products;
    i64 num;
} Products;

static void multiply_share(void *task, i64 thread, i64 num_threads) {
    const Products *all = task;
    for (i64 index = 0; index < all->num; index++) {
        const Product *p = all->products + index;
        i64 column = p->n * thread / num_threads, end = p->n * (thread + 1) / num_threads;
        if (p->m < 4)
            for (; column + 4 <= end; column += 4) multiply_4(p, column);
        for (; column + 3 <= end; column += 3) multiply_3(p, column);
        for (; column < end; column++) multiply_1(p, column);
    }
}

void multiply(const Product *products, i64 num, i64 num_threads) {
    Products all = {products, num};
    run_team(multiply_share, &all, num_threads);
}

#endif /* not QUANTIZED */

#ifdef QUANTIZED
/* ---- products with quantised weights: y = x w^T, where w is a few bits per number times a scale per group of columns

   A group is summed up in float and scaled once.  Rows of x are widened beforehand, for all rows of w. */

enum { INT8, INT4, FP8_E4M3 };

typedef int8_t i8s __attribute__((vector_size(LANES)));
typedef uint8_t u8s __attribute__((vector_size(LANES)));
typedef int32_t i32s __attribute__((vector_size(4 * LANES)));

/* LANES bytes as numbers of 32 bits; what compilers make of __builtin_convertvector here is slow */
static inline i32s widen_signed(const uint8_t *from) {
#if defined(__AVX512F__)
    return (i32s)_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined(__AVX2__)
    return (i32s)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    i8s bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, i32s);
#endif
}

static inline i32s widen_unsigned(const uint8_t *from) {
#if defined(__AVX512F__)
    return (i32s)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)from));
#elif defined(__AVX2__)
    return (i32s)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)from));
#else
    u8s bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, i32s);
#endif
}

typedef struct { /* passed from Python as nine int64 */
    const uint8_t *w;    /* [n, k] bytes, or [n, k / 2]: of each 32 columns the first 16 in the lower halves */
    const float *scales; /* [n, k / group] */
    const bf16 *x;       /* [m, k] */
    bf16 *y;             /* [m, n]; when w is only widened, [n, k] */
    i64 n, m, k, group;  /* k and group are multiples of 32 */
    i64 format;
} QuantizedProduct;

#define HALF 16 /* columns: those of the lower halves of int4, and those of the upper halves */

typedef struct {
    f32s low, high; /* some columns of a first half, and those HALF further on */
} Pair;

/* As an IEEE half, whose exponent is biased by 15 and not 7, a code is 2^-8 of what it stands for; its NaN is no NaN. */
#if defined(__AVX512F__)
static inline f32s float_from_e4m3(const uint8_t *from) {
    __m256i halves = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from)), 7);
    const __m256i nan = _mm256_set1_epi16(0x3f80);
    halves = _mm256_and_si256(halves, _mm256_set1_epi16((short)0xbf80)); /* the sign was spread */
    __m256i is_nan = _mm256_cmpeq_epi16(_mm256_and_si256(halves, nan), nan);
    halves = _mm256_or_si256(halves, _mm256_and_si256(is_nan, _mm256_set1_epi16(0x4000)));
    return (f32s)_mm512_cvtph_ps(halves) * 0x1p8f;
}
#elif defined(__AVX2__) && defined(__F16C__)
static inline f32s float_from_e4m3(const uint8_t *from) {
    __m128i halves = _mm_slli_epi16(_mm_cvtepi8_epi16(_mm_loadl_epi64((const __m128i *)from)), 7);
    const __m128i nan = _mm_set1_epi16(0x3f80);
    halves = _mm_and_si128(halves, _mm_set1_epi16((short)0xbf80)); /* the sign was spread */
    __m128i is_nan = _mm_cmpeq_epi16(_mm_and_si128(halves, nan), nan);
    halves = _mm_or_si128(halves, _mm_and_si128(is_nan, _mm_set1_epi16(0x4000))); /* all of the exponent */
    return (f32s)_mm256_cvtph_ps(halves) * 0x1p8f;
}
#else
static inline f32s float_from_e4m3(const uint8_t *from) {
    u32s bits = (u32s)widen_unsigned(from), magnitude = bits & 0x7f;
    u32s normal = (magnitude << 20) + (120u << 23); /* the exponent's bias is 7 there and 127 here */
    u32s tiny = (u32s)(__builtin_convertvector((i32s)magnitude, f32s) * 0x1p-9f);
    u32s is_tiny = (u32s)(magnitude < 8), nan = (u32s)(magnitude == 0x7f) & 0x7fc00000;
    return (f32s)((is_tiny & tiny) | (~is_tiny & normal) | nan | (bits & 0x80) << 24);
}
#endif

/* LANES columns from `at` on, which is in a first half */
static inline __attribute__((always_inline)) Pair unpack(const int format, const uint8_t *row, i64 at) {
    Pair pair;
    if (format == INT4) {
        i32s both = widen_unsigned(row + at / (2 * HALF) * HALF + at % HALF);
        pair.low = __builtin_convertvector((both & 15) - 8, f32s);
        pair.high = __builtin_convertvector((both >> 4) - 8, f32s);
    } else if (format == INT8) {
        pair.low = __builtin_convertvector(widen_signed(row + at), f32s);
        pair.high = __builtin_convertvector(widen_signed(row + at + HALF), f32s);
    } else {
        pair.low = float_from_e4m3(row + at);
        pair.high = float_from_e4m3(row + at + HALF);
    }
    return pair;
}

static inline __attribute__((always_inline)) void
multiply_quantized_tile(const int format, const int nw, const int nx, const QuantizedProduct *p, const float *x, i64 row,
                        i64 column) {
    const i64 stride = format == INT4 ? p->k / 2 : p->k, groups = p->k / p->group;
    const uint8_t *w = p->w + column * stride;
    f32s sums[MAX_NX][MAX_NW];
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < nw; j++) sums[i][j] = (f32s){0};
    for (i64 g = 0; g < groups; g++) {
        f32s parts[MAX_NX][MAX_NW];
        for (int i = 0; i < nx; i++)
            for (int j = 0; j < nw; j++) parts[i][j] = (f32s){0};
        for (i64 chunk = g * p->group; chunk < (g + 1) * p->group; chunk += 2 * HALF)
            for (i64 at = chunk; at < chunk + HALF; at += LANES)
                for (int j = 0; j < nw; j++) {
                    Pair ws = unpack(format, w + j * stride, at);
                    if (row == 0) __builtin_prefetch(w + (j + nw) * stride + (format == INT4 ? at / 2 : at), 0, 2);
                    for (int i = 0; i < nx; i++) {
                        Pair xs;
                        memcpy(&xs.low, x + (row + i) * p->k + at, sizeof xs.low);
                        memcpy(&xs.high, x + (row + i) * p->k + at + HALF, sizeof xs.high);
                        parts[i][j] += ws.low * xs.low;
                        parts[i][j] += ws.high * xs.high;
                    }
                }
        for (int i = 0; i < nx; i++)
            for (int j = 0; j < nw; j++) sums[i][j] += parts[i][j] * p->scales[(column + j) * groups + g];
    }
    for (int i = 0; i < nx; i++)
        for (int j = 0; j < nw; j++) p->y[(row + i) * p->n + column + j] = narrow(sum_lanes(sums[i][j]));
}

static inline __attribute__((always_inline)) void
multiply_quantized_rows(const int format, const int nw, const QuantizedProduct *p, const float *x, i64 column) {
    i64 row = 0;
    for (; row + 4 <= p->m; row += 4) multiply_quantized_tile(format, nw, 4, p, x, row, column);
    switch (p->m - row) {
    case 3: multiply_quantized_tile(format, nw, 3, p, x, row, column); break;
    case 2: multiply_quantized_tile(format, nw, 2, p, x, row, column); break;
    case 1: multiply_quantized_tile(format, nw, 1, p, x, row, column); break;
    }
}

static inline __attribute__((always_inline)) void
multiply_quantized_columns(const int format, const QuantizedProduct *p, const float *x, i64 column, i64 end) {
    if (p->m == 1)
        for (; column + 4 <= end; column += 4) multiply_quantized_tile(format, 4, 1, p, x, 0, column);
    for (; column + 2 <= end; column += 2) multiply_quantized_rows(format, 2, p, x, column);
    for (; column < end; column++) multiply_quantized_rows(format, 1, p, x, column);
}

typedef struct {
    const QuantizedProduct *products;
    const float *const *xs; /* of each product, widened */
    i64 num;
} QuantizedProducts;

static void multiply_quantized_share(void *task, i64 thread, i64 num_threads) {
    const QuantizedProducts *all = task;
    for (i64 index = 0; index < all->num; index++) {
        const QuantizedProduct *p = all->products + index;
        i64 column = p->n * thread / num_threads, end = p->n * (thread + 1) / num_threads;
        switch (p->format) {
        case INT8: multiply_quantized_columns(INT8, p, all->xs[index], column, end); break;
        case INT4: multiply_quantized_columns(INT4, p, all->xs[index], column, end); break;
        default: multiply_quantized_columns(FP8_E4M3, p, all->xs[index], column, end);
        }
    }
}

/* Returns 0, or 1 if there is no memory for the widened rows. */
int multiply_quantized(const QuantizedProduct *products, i64 num, i64 num_threads) {
    size_t numbers = 0;
    for (i64 i = 0; i < num; i++)
        if (i == 0 || products[i].x != products[i - 1].x) numbers += (size_t)(products[i].m * products[i].k);
    float *wide = malloc(numbers * sizeof(float) + (size_t)num * sizeof(float *));
    if (!wide) return 1;
    const float **xs = (const float **)(wide + numbers); /* numbers is even */
    float *next = wide;
    for (i64 i = 0; i < num; i++) {
        const QuantizedProduct *p = products + i;
        if (i && p->x == products[i - 1].x) {
            xs[i] = xs[i - 1];
            continue;
        }
        xs[i] = next;
        for (i64 at = 0; at < p->m * p->k; at += LANES, next += LANES) {
            f32s row = widen_many(p->x + at);
            memcpy(next, &row, sizeof row);
        }
    }
    QuantizedProducts all = {products, xs, num};
    run_team(multiply_quantized_share, &all, num_threads);
    free(wide);
    return 0;
}

static void widen_share(void *task, i64 thread, i64 num_threads) {
    const QuantizedProduct *p = task;
    const i64 stride = p->format == INT4 ? p->k / 2 : p->k, groups = p->k / p->group;
    for (i64 row = p->n * thread / num_threads; row < p->n * (thread + 1) / num_threads; row++)
        for (i64 at = 0; at < p->k; at += at % HALF + LANES == HALF ? HALF + LANES : LANES) {
            const uint8_t *w = p->w + row * stride;
            const float scale = p->scales[row * groups + at / p->group];
            Pair pair = p->format == INT8   ? unpack(INT8, w, at)
                        : p->format == INT4 ? unpack(INT4, w, at)
                                            : unpack(FP8_E4M3, w, at);
            narrow_many(p->y + row * p->k + at, pair.low * scale);
            narrow_many(p->y + row * p->k + at + HALF, pair.high * scale);
        }
}

/* y = w in bfloat16 */
void widen_quantized(QuantizedProduct *product, i64 num_threads) { run_team(widen_share, product, num_threads); }

#else
/* ---- elementwise */

static inline f32s exp_many(f32s x) { /* e^x for x <= 88, to about 2 ulp: 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2] */
    x = at_least(x, -87.0f);
    f32s shifted = x * 1.44269504f + 12582912.0f; /* adding 1.5 * 2^23 rounds to an integer */
    f32s n = shifted - 12582912.0f;
    f32s r = x - n * 0.693359375f + n * 2.12194440e-4f;
    f32s p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return (f32s)((u32s)p + ((u32s)shifted << 23));
}

/* y = w * x / rms(x), normalised in float, rounded, then scaled; x, y [m, k], k a multiple of LANES */
void rms_norm(const bf16 *x, const bf16 *w, bf16 *y, i64 m, i64 k, double eps) {
    for (i64 row = 0; row < m; row++, x += k, y += k) {
        f32s squares = {0};
        for (i64 at = 0; at < k; at += LANES) {
            f32s xs = widen_many(x + at);
            squares += xs * xs;
        }
        f32s scale = all_lanes(1.0f / sqrtf(sum_lanes(squares) / (float)k + (float)eps));
        for (i64 at = 0; at < k; at += LANES) {
            bf16 normed[LANES];
            narrow_many(normed, widen_many(x + at) * scale);
            narrow_many(y + at, widen_many(normed) * widen_many(w + at));
        }
    }
}

/* gate = silu(gate) * up, each rounded; num a multiple of LANES */
void swiglu(bf16 *gate, const bf16 *up, i64 num) {
    for (i64 at = 0; at < num; at += LANES) {
        f32s x = at_least(widen_many(gate + at), -80.0f); /* below, silu is 0 to 30 places */
        bf16 silu[LANES];
        narrow_many(silu, x / (1.0f + exp_many(-x)));
        narrow_many(gate + at, widen_many(silu) * widen_many(up + at));
    }
}

/* rotate the pairs of x [m, heads, dim] in place by rotation [m, dim / 2] of (cos, sin) */
void rotate(bf16 *x, const float *rotation, i64 m, i64 heads, i64 dim) {
    for (i64 row = 0; row < m; row++, rotation += dim)
        for (i64 head = 0; head < heads; head++, x += dim)
            for (i64 i = 0; i < dim; i += 2) {
                float re = widen(x[i]), im = widen(x[i + 1]);
                x[i] = narrow(re * rotation[i] - im * rotation[i + 1]);
                x[i + 1] = narrow(re * rotation[i + 1] + im * rotation[i]);
            }
}

/* ---- attention of single queries over a cache of keys and values

   The keys of a query are cut into segments at fixed positions.  Each segment gives its largest score, its sum of
   exponentials and its mix of values; these are merged in order (arXiv:1805.02867), so that threads change nothing. */

#define SEGMENT 256
#define MAX_HEAD_DIM 256

typedef struct { /* one query of all heads; passed from Python as five int64 */
    i64 row;          /* in q and out */
    i64 first_key, end_key;
    i64 first_slot;   /* of position 0, when the slots follow one another */
    const i64 *slots; /* else of each position; or NULL */
} Query;

typedef struct {
    const bf16 *q; /* [T, heads, dim] */
    bf16 *out;     /* [T, heads, dim] */
    const bf16 *k, *v; /* [slots, kv_heads, dim] */
    const Query *queries;
    i64 num_queries, heads, kv_heads, dim;
    const i64 *first_part; /* [num_queries + 1], running number of segments */
    float *parts;    /* [segments, kv_heads, group, 2 + dim] */
} Attention;

static inline i64 slot_of(const Query *query, i64 position) {
    return query->slots ? query->slots[position] : query->first_slot + position;
}

/* scores[g][i] = q_g k_i / sqrt(dim) for `group` heads that share their keys, which are read once; and the largest of each */
static inline __attribute__((always_inline)) void
score(const int group, const bf16 *q, const bf16 *const *keys, i64 num, i64 dim, float (*scores)[SEGMENT], float *largest) {
    const float scale = 1.0f / sqrtf((float)dim);
    Operand qs[4][MAX_HEAD_DIM / STEP];
    for (int g = 0; g < group; g++) {
        for (i64 at = 0; at < dim; at += STEP) qs[g][at / STEP] = load(q + g * dim + at);
        largest[g] = -INFINITY;
    }
    for (i64 i = 0; i < num; i++) {
        Sums sums[4];
        for (int g = 0; g < group; g++) sums[g] = no_sums();
        for (i64 at = 0; at < dim; at += STEP) {
            Operand ks = load(keys[i] + at);
            for (int g = 0; g < group; g++) sums[g] = multiply_add(sums[g], qs[g][at / STEP], ks);
        }
        for (int g = 0; g < group; g++) {
            scores[g][i] = total(sums[g]) * scale;
            largest[g] = scores[g][i] > largest[g] ? scores[g][i] : largest[g];
        }
    }
}

/* scores become exp(score - largest); returns their sum.  The array is as long as a multiple of LANES. */
static float exponentiate(float *scores, i64 num, float largest) {
    f32s sums = {0};
    for (i64 i = num; i % LANES; i++) scores[i] = -INFINITY;
    for (i64 i = 0; i < num; i += LANES) {
        f32s xs;
        memcpy(&xs, scores + i, sizeof xs);
        xs = exp_many(xs - largest);
        memcpy(scores + i, &xs, sizeof xs);
    }
    for (i64 i = num; i % LANES; i++) scores[i] = 0;
    for (i64 i = 0; i < num; i += LANES) {
        f32s xs;
        memcpy(&xs, scores + i, sizeof xs);
        sums += xs;
    }
    return sum_lanes(sums);
}

/* mixed[g] = sum of weights[g][i] * values[i], for `group` heads that share their values */
static inline __attribute__((always_inline)) void
mix(const int group, const bf16 *const *values, i64 num, i64 dim, float (*weights)[SEGMENT], float *mixed, i64 stride) {
    for (i64 at = 0; at < dim; at += 2 * LANES) {
        f32s low[4], high[4];
        for (int g = 0; g < group; g++) low[g] = high[g] = (f32s){0};
        for (i64 i = 0; i < num; i++) {
            f32s v_low = widen_many(values[i] + at), v_high = widen_many(values[i] + at + LANES);
            for (int g = 0; g < group; g++) {
                low[g] += weights[g][i] * v_low;
                high[g] += weights[g][i] * v_high;
            }
        }
        for (int g = 0; g < group; g++) {
            memcpy(mixed + g * stride + at, &low[g], sizeof low[g]);
            memcpy(mixed + g * stride + at + LANES, &high[g], sizeof high[g]);
        }
    }
}

static void attend_segment(const Attention *a, const Query *query, i64 segment, i64 kv_head, float *part) {
    const i64 group = a->heads / a->kv_heads, stride = a->dim + 2;
    const i64 begin = segment * SEGMENT > query->first_key ? segment * SEGMENT : query->first_key;
    const i64 end = (segment + 1) * SEGMENT < query->end_key ? (segment + 1) * SEGMENT : query->end_key;
    const i64 num = end - begin;
    const bf16 *keys[SEGMENT], *values[SEGMENT];
    float weights[4][SEGMENT];
    for (i64 i = 0; i < num; i++) {
        i64 offset = (slot_of(query, begin + i) * a->kv_heads + kv_head) * a->dim;
        keys[i] = a->k + offset;
        values[i] = a->v + offset;
    }
    const bf16 *q = a->q + (query->row * a->heads + kv_head * group) * a->dim;
    for (i64 first = 0; first < group; first += 4) {
        const i64 heads = group - first < 4 ? group - first : 4;
        float *mine = part + first * stride, largest[4];
        if (heads == 4) score(4, q + first * a->dim, keys, num, a->dim, weights, largest);
        else
            for (i64 g = 0; g < heads; g++)
                score(1, q + (first + g) * a->dim, keys, num, a->dim, weights + g, largest + g);
        for (i64 g = 0; g < heads; g++) {
            mine[g * stride] = largest[g];
            mine[g * stride + 1] = exponentiate(weights[g], num, largest[g]);
        }
        if (heads == 4) mix(4, values, num, a->dim, weights, mine + 2, stride);
        else
            for (i64 g = 0; g < heads; g++)
                mix(1, values, num, a->dim, weights + g, mine + g * stride + 2, stride);
    }
}

static void attend_share(void *task, i64 thread, i64 num_threads) {
    const Attention *a = task;
    const i64 part_size = a->heads / a->kv_heads * (a->dim + 2);
    const i64 units = a->first_part[a->num_queries] * a->kv_heads;
    i64 unit = units * thread / num_threads, end = units * (thread + 1) / num_threads, index = 0;
    for (; unit < end; unit++) {
        i64 segment = unit / a->kv_heads;
        while (segment >= a->first_part[index + 1]) index++;
        const Query *query = a->queries + index;
        segment += query->first_key / SEGMENT - a->first_part[index];
        attend_segment(a, query, segment, unit % a->kv_heads, a->parts + unit * part_size);
    }
}

/* Merge the parts of one query's head, `stride` floats apart, into its output. */
static void merge(const float *part, i64 num, i64 stride, i64 dim, bf16 *out) {
    float mixed[MAX_HEAD_DIM], largest = -INFINITY, sum = 0;
    for (i64 i = 0; i < dim; i++) mixed[i] = 0;
    for (; num; num--, part += stride) {
        float together = part[0] > largest ? part[0] : largest;
        float old = expf(largest - together), new = expf(part[0] - together);
        sum = sum * old + part[1] * new;
        for (i64 i = 0; i < dim; i++) mixed[i] = mixed[i] * old + part[2 + i] * new;
        largest = together;
    }
    for (i64 i = 0; i < dim; i++) out[i] = narrow(mixed[i] / sum);
}

static void merge_share(void *task, i64 thread, i64 num_threads) {
    const Attention *a = task;
    const i64 group = a->heads / a->kv_heads, stride = group * (a->dim + 2) * a->kv_heads;
    i64 unit = a->num_queries * a->heads * thread / num_threads;
    for (; unit < a->num_queries * a->heads * (thread + 1) / num_threads; unit++) {
        i64 index = unit / a->heads, head = unit % a->heads;
        i64 first = a->first_part[index], num = a->first_part[index + 1] - first;
        merge(a->parts + first * stride + head * (a->dim + 2), num, stride, a->dim,
              a->out + (a->queries[index].row * a->heads + head) * a->dim);
    }
}

#define MAX_QUERIES 64 /* at once: bounds the memory of the parts */

/* Returns 0, or 1 if there is no memory for the parts. */
int attend(const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, const Query *queries, i64 num_queries, i64 heads,
           i64 kv_heads, i64 dim, i64 num_threads) {
    for (; num_queries > 0; num_queries -= MAX_QUERIES, queries += MAX_QUERIES) {
        const i64 num = num_queries < MAX_QUERIES ? num_queries : MAX_QUERIES;
        i64 first_part[MAX_QUERIES + 1] = {0};
        for (i64 i = 0; i < num; i++)
            first_part[i + 1] =
                first_part[i] + (queries[i].end_key - 1) / SEGMENT - queries[i].first_key / SEGMENT + 1;
        float *parts = malloc((size_t)(first_part[num] * heads * (dim + 2)) * sizeof(float));
        if (!parts) return 1;
        Attention a = {q, out, k, v, queries, num, heads, kv_heads, dim, first_part, parts};
        run_team(attend_share, &a, num_threads);
        run_team(merge_share, &a, num * heads * dim < 16384 ? 1 : num_threads);
        free(parts);
    }
    return 0;
}
#endif /* QUANTIZED */
