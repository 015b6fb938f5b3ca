// Does this compiler really emit the instructions that the flags promise, and do they give the
// right result? Compiled with the flags of the tuned CPU backend, once as C and once as C++,
// optimised, because one known fault (stores to a tile configuration dropped as dead) only shows
// then. Prints one line with what it found; exits 0 when every product is right, 1 when one is
// wrong, 2 when the machine refuses. A compiler whose code dies here is not used.
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef __cplusplus
#include <string>
#include <thread>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#define DEPTH 64
#define SIDE 16

static uint8_t left[SIDE * DEPTH];
static int8_t right[SIDE * DEPTH];

static void fill(void) {
    uint32_t state = 12345;
    for (int i = 0; i < SIDE * DEPTH; i++) {
        state = state * 1664525u + 1013904223u;
        left[i] = (uint8_t) (state >> 24) % 100;
        right[i] = (int8_t) ((int) ((state >> 16) % 200) - 100);
    }
}

static int32_t plain(int row, int column) {
    volatile int32_t sum = 0;
    for (int k = 0; k < DEPTH; k++) {
        sum = sum + (int32_t) left[row * DEPTH + k] * (int32_t) right[column * DEPTH + k];
    }
    return sum;
}

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
static int check_vnni512(void) {
    __m512i sum = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512((const void *) left),
                                      _mm512_loadu_si512((const void *) right));
    return _mm512_reduce_add_epi32(sum) == plain(0, 0);
}
#endif

#if defined(__AVXVNNI__)
static int check_vnni256(void) {
    int32_t lanes[8];
    __m256i sum = _mm256_setzero_si256();
    for (int k = 0; k < DEPTH; k += 32) {
        sum = _mm256_dpbusd_avx_epi32(sum, _mm256_loadu_si256((const __m256i *) (const void *) (left + k)),
                                      _mm256_loadu_si256((const __m256i *) (const void *) (right + k)));
    }
    _mm256_storeu_si256((__m256i *) (void *) lanes, sum);
    int32_t total = 0;
    for (int i = 0; i < 8; i++) {
        total += lanes[i];
    }
    return total == plain(0, 0);
}
#endif

#if defined(__AVX2__) && defined(__FMA__)
static int check_fma(void) {
    float lanes[8], expected = 0.0f;
    __m256 sum = _mm256_setzero_ps();
    for (int k = 0; k < DEPTH; k += 8) {
        float a[8], b[8];
        for (int i = 0; i < 8; i++) {
            a[i] = (float) (left[k + i] % 16);
            b[i] = (float) (right[k + i] % 16);
            expected += a[i] * b[i];
        }
        sum = _mm256_fmadd_ps(_mm256_loadu_ps(a), _mm256_loadu_ps(b), sum);
    }
    _mm256_storeu_ps(lanes, sum);
    float total = 0.0f;
    for (int i = 0; i < 8; i++) {
        total += lanes[i];
    }
    return total == expected;
}
#endif

#if defined(__AMX_INT8__) && defined(__linux__)
typedef struct {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t columns_bytes[16];
    uint8_t rows[16];
} tiles_t;

// The configuration is built on the stack of a function that does nothing else with it, which is
// how ggml does it and where the fault of some compilers shows.
static __attribute__((noinline)) void configure(void) {
    tiles_t tiles = {0};
    tiles.palette = 1;
    for (int i = 0; i < 3; i++) {
        tiles.rows[i] = SIDE;
        tiles.columns_bytes[i] = DEPTH;
    }
    _tile_loadconfig(&tiles);
}

static int check_amx(void) {
    // ARCH_REQ_XCOMP_PERM for the tile data.
    if (syscall(SYS_arch_prctl, 0x1023, 18) != 0) {
        return -1;
    }
    // The right-hand side goes in as groups of four along the depth.
    static int8_t packed[SIDE * DEPTH];
    static int32_t out[SIDE * SIDE];
    for (int k = 0; k < DEPTH / 4; k++) {
        for (int column = 0; column < SIDE; column++) {
            memcpy(packed + k * DEPTH + column * 4, right + column * DEPTH + k * 4, 4);
        }
    }
    configure();
    _tile_zero(0);
    _tile_loadd(1, left, DEPTH);
    _tile_loadd(2, packed, DEPTH);
    _tile_dpbusd(0, 1, 2);
    _tile_stored(0, out, SIDE * 4);
    _tile_release();
    for (int row = 0; row < SIDE; row++) {
        for (int column = 0; column < SIDE; column++) {
            if (out[row * SIDE + column] != plain(row, column)) {
                return 0;
            }
        }
    }
    return 1;
}
#endif

static int failed = 0;
static void say(const char * name, int result) {
    printf("%s=%s ", name, result == 1 ? "right" : result == 0 ? "wrong" : "refused");
    if (result != 1) {
        failed = failed > 0 ? failed : (result == 0 ? 1 : 2);
    }
}

int main(void) {
    fill();
#ifdef __cplusplus
    std::string word("standard library");
    std::thread([&] { word += " ok"; }).join();
    if (word.size() != 19) {
        return 1;
    }
#endif
#if defined(__SSE4_2__)
    printf("SSE42=on ");
#endif
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
    printf("AVX512=on ");
#endif
#if defined(__AVX512BF16__)
    printf("AVX512_BF16=on ");
#endif
#if defined(__AVX2__) && defined(__FMA__)
    say("AVX2", check_fma());
#endif
#if defined(__AVXVNNI__)
    say("AVX_VNNI", check_vnni256());
#endif
#if defined(__AVX512VNNI__) && defined(__AVX512F__)
    say("AVX512_VNNI", check_vnni512());
#endif
#if defined(__AMX_INT8__) && defined(__linux__)
    say("AMX_INT8", check_amx());
#endif
#if defined(__ARM_FEATURE_DOTPROD)
    printf("DOTPROD=on ");
#endif
#if defined(__ARM_FEATURE_MATMUL_INT8)
    printf("MATMUL_INT8=on ");
#endif
#if defined(__ARM_FEATURE_SVE)
    printf("SVE=on ");
#endif
    printf("\n");
    return failed;
}
