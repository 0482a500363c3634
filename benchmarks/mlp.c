// One epoch of mini-batch gradient descent for a multilayer perceptron of sigmoids and the cross-entropy, as anyone
// would write it: a loop over examples inside a loop over mini-batches, and no library. w[l] is [n[l + 1], n[l]].
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 16 };

static float dot(const float *a, const float *b, int n) {
    float sum = 0;
    #pragma omp simd reduction(+ : sum)
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static void add(float *a, float s, const float *b, int n) {
    for (int i = 0; i < n; i++) a[i] += s * b[i];
}

static float *zeros(size_t n) { return calloc(n, sizeof(float)); }

// values receives the mean cost of each mini-batch.
void epoch(int layers, const int *n, float **w, float **b, const float *xs, const float *ys, const int *order,
           int examples, int batch_size, float eta, float *values) {
    float *a[LAYERS], *delta[LAYERS], *dw[LAYERS], *db[LAYERS];
    for (int l = 0; l < layers; l++) {
        a[l + 1] = zeros(n[l + 1]), delta[l + 1] = zeros(n[l + 1]);
        dw[l] = zeros((size_t)n[l] * n[l + 1]), db[l] = zeros(n[l + 1]);
    }
    int outputs = n[layers];
    for (int start = 0; start < examples; start += batch_size) {
        int m = examples - start < batch_size ? examples - start : batch_size;
        float value = 0;
        for (int i = start; i < start + m; i++) {
            a[0] = (float *)xs + (size_t)order[i] * n[0];
            const float *y = ys + (size_t)order[i] * outputs;
            for (int l = 0; l < layers; l++)
                for (int j = 0; j < n[l + 1]; j++)
                    a[l + 1][j] = 1 / (1 + expf(-dot(w[l] + (size_t)j * n[l], a[l], n[l]) - b[l][j]));
            for (int j = 0; j < outputs; j++) {
                float o = a[layers][j];
                value -= y[j] > 0.5f ? logf(o) : logf(1 - o);
                delta[layers][j] = o - y[j];
            }
            for (int l = layers - 1; l >= 0; l--) {
                for (int j = 0; j < n[l + 1]; j++) {
                    add(dw[l] + (size_t)j * n[l], delta[l + 1][j], a[l], n[l]);
                    db[l][j] += delta[l + 1][j];
                }
                if (l == 0) break;
                memset(delta[l], 0, n[l] * sizeof(float));
                for (int j = 0; j < n[l + 1]; j++) add(delta[l], delta[l + 1][j], w[l] + (size_t)j * n[l], n[l]);
                for (int k = 0; k < n[l]; k++) delta[l][k] *= a[l][k] * (1 - a[l][k]);
            }
        }
        for (int l = 0; l < layers; l++) {
            add(w[l], -eta / m, dw[l], n[l] * n[l + 1]);
            add(b[l], -eta / m, db[l], n[l + 1]);
            memset(dw[l], 0, (size_t)n[l] * n[l + 1] * sizeof(float));
            memset(db[l], 0, n[l + 1] * sizeof(float));
        }
        values[start / batch_size] = value / m;
    }
    for (int l = 0; l < layers; l++) free(a[l + 1]), free(delta[l + 1]), free(dw[l]), free(db[l]);
}
