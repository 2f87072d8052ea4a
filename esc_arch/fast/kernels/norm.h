// The normalisation of pixels over their channels. Included once for every instruction set, behind vector.h.

struct Norm {
    int channels;
    float epsilon;
    const float *packed;  // (3, padded channels): scale, shift, and 1 for channels that are there; null for none

    static std::ptrdiff_t size(int channels) { return 3 * padded_channels(channels); }

    // Takes size(channels) floats of memory. Without a scale there is no normalisation.
    Norm(int channels, float epsilon, const float *scale, const float *shift, float *memory)
        : channels(channels), epsilon(epsilon), packed(scale ? memory : nullptr) {
        const int padded = padded_channels(channels);
        for (int c = 0; scale && c < padded; c++) {
            const bool there = c < channels;
            memory[c] = there ? scale[c] : 0.f;
            memory[padded + c] = there ? shift[c] : 0.f;
            memory[2 * padded + c] = there;
        }
    }

    // Normalises a pixel in its place, padded_channels(channels) floats; the further ones are zeros.
    TARGET void operator()(float *pixel) const {
        if (!packed) return;
        const int padded = padded_channels(channels);
        Vec total{}, squares{};
        for (int c = 0; c < padded; c += LANES) total += load(pixel + c);
        const float mean = sum(total) / channels;
        for (int c = 0; c < padded; c += LANES) {
            const Vec centred = (load(pixel + c) - mean) * load(packed + 2 * padded + c);
            squares += centred * centred;
            store(pixel + c, centred);
        }
        const float factor = 1 / __builtin_sqrtf(sum(squares) / channels + epsilon);
        for (int c = 0; c < padded; c += LANES)
            store(pixel + c, load(pixel + c) * factor * load(packed + c) + load(packed + padded + c));
    }
};

// Copies a pixel, and fills it up with zeros to `size` floats.
INLINE void copy_filled(const float *pixel, int channels, int size, float *out) {
    __builtin_memcpy(out, pixel, sizeof(float) * channels);
    for (int c = channels; c < size; c++) out[c] = 0.f;
}
