// The windows of a batch of images, and their shares for the threads; the same for every instruction set.

static Window window_of(const Images &images, std::ptrdiff_t index) {
    const int columns = images.width / images.side, rows = images.height / images.side;
    const std::ptrdiff_t row = index / columns % rows, image = index / columns / rows;
    return {
        images.side,
        images.heads,
        images.depth,
        images.width,
        (image * images.height + row * images.side) * images.width + index % columns * images.side,
    };
}

// Copies the biases of a head, times log2(e), in reverse order.
static void reverse_table(const float *table, int entries, float *to) {
    for (int entry = 0; entry < entries; entry++) to[entries - 1 - entry] = table[entry] * LOG2_E;
}

// A part of the queries of a head of a window.
struct Share {
    int head;
    std::ptrdiff_t index;  // of the window
    int first, last;  // the queries [first, last), 32 or a multiple of it
};

// Into how many parts the queries of a head of a window are cut, where there are few of them.
static int parts_of_heads(const Images &images) {
    int parts = 1;  // 8 at most, which leave 32 queries to each in the smallest window
    while (images.windows() * images.heads * parts < 4 * images.threads && parts < 8) parts *= 2;
    return parts;
}

static Share share_of(const Images &images, int parts, std::ptrdiff_t unit) {
    const int part = unit % parts, head = unit / parts % images.heads, size = images.side * images.side / parts;
    return {head, unit / parts / images.heads, part * size, (part + 1) * size};
}
