/* A training run of the 2-3-2 network written by hand: sigmoid, softmax cross-entropy summed over the rows, momentum.

   The rows are on the innermost loop, so that a compiler makes vectors of them. With two classes the softmax is the
   logistic function of the difference of the logits. Like fnn it keeps the cost of every step; it has no guard.

   p is b1[3], w1[2][3], b2[2], w2[3][2] one after another; m, of the same length, is the momentum. x0 and x1 are the
   columns of the inputs, first is 1 for rows of the first class and 0 for the others. */

#include <math.h>

#define WEIGHTS 17

void train(float *p, float *m, const float *restrict x0, const float *restrict x1, const float *restrict first,
           int rows, int steps, float rate, float momentum, float *costs)
{
    for (int step = 0; step < steps; step++) {
        const float b0 = p[0], b1 = p[1], b2 = p[2];
        const float u0 = p[3], u1 = p[4], u2 = p[5], v0 = p[6], v1 = p[7], v2 = p[8];
        const float c = p[10] - p[9]; /* of the second logit above the first */
        const float w0 = p[12] - p[11], w1 = p[14] - p[13], w2 = p[16] - p[15];
        float gb0 = 0, gb1 = 0, gb2 = 0, gu0 = 0, gu1 = 0, gu2 = 0, gv0 = 0, gv1 = 0, gv2 = 0;
        float gc = 0, gw0 = 0, gw1 = 0, gw2 = 0, cost = 0;

        for (int i = 0; i < rows; i++) {
            const float a = x0[i], b = x1[i];
            const float h0 = 1 / (1 + expf(-(a * u0 + b * v0 + b0)));
            const float h1 = 1 / (1 + expf(-(a * u1 + b * v1 + b1)));
            const float h2 = 1 / (1 + expf(-(a * u2 + b * v2 + b2)));
            const float z = h0 * w0 + h1 * w1 + h2 * w2 + c;
            const float e = expf(-fabsf(z)); /* does not overflow */
            const float second = (z > 0 ? 1 : e) / (1 + e);
            const float d = second - (1 - first[i]); /* derivative by z */
            cost += logf(1 + e) + (z > 0 ? z : 0) - (1 - first[i]) * z;

            const float d0 = d * w0 * h0 * (1 - h0), d1 = d * w1 * h1 * (1 - h1), d2 = d * w2 * h2 * (1 - h2);
            gc += d, gw0 += d * h0, gw1 += d * h1, gw2 += d * h2;
            gb0 += d0, gb1 += d1, gb2 += d2;
            gu0 += d0 * a, gu1 += d1 * a, gu2 += d2 * a;
            gv0 += d0 * b, gv1 += d1 * b, gv2 += d2 * b;
        }

        const float g[WEIGHTS] = {gb0, gb1, gb2, gu0, gu1, gu2, gv0, gv1, gv2,
                                  -gc, gc, -gw0, gw0, -gw1, gw1, -gw2, gw2};
        for (int k = 0; k < WEIGHTS; k++) {
            m[k] = momentum * m[k] + g[k];
            p[k] -= rate * m[k];
        }
        costs[step] = cost;
    }
}
