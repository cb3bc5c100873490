/* A ring buffer of bytes with a checksum, and a small program that exercises it. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAPACITY 64u
#define MIN(a, b) ((a) < (b) ? (a) : (b))

#ifdef NDEBUG
#define TRACE(...) ((void)0)
#else
#define TRACE(...) fprintf(stderr, __VA_ARGS__)
#endif

typedef enum { RING_OK = 0, RING_FULL, RING_EMPTY } ring_status;

typedef struct ring {
    uint8_t *data;
    size_t capacity;
    size_t head, tail;
    bool full;
    union {
        uint32_t sum;
        uint8_t bytes[4];
    } check;
} ring;

static const char *const NAMES[] = {"ok", "full", "empty"};

static uint32_t adler(uint32_t before, const uint8_t *bytes, size_t count)
{
    uint32_t a = before & 0xffff, b = (before >> 16) & 0xffff;
    for (size_t i = 0; i < count; i++) {
        a = (a + bytes[i]) % 65521;
        b = (b + a) % 65521;
    }
    return (b << 16) | a;
}

ring *ring_new(size_t capacity)
{
    ring *r = malloc(sizeof(*r));
    if (r == NULL)
        return NULL;
    r->data = calloc(capacity, sizeof(uint8_t));
    if (!r->data) {
        free(r);
        return NULL;
    }
    r->capacity = capacity;
    r->head = r->tail = 0;
    r->full = false;
    r->check.sum = 1;
    return r;
}

void ring_free(ring *r)
{
    if (!r)
        return;
    free(r->data);
    free(r);
}

size_t ring_count(const ring *r)
{
    if (r->full)
        return r->capacity;
    return r->head >= r->tail ? r->head - r->tail : r->capacity + r->head - r->tail;
}

ring_status ring_put(ring *r, uint8_t byte)
{
    if (r->full)
        return RING_FULL;
    r->data[r->head] = byte;
    r->head = (r->head + 1) % r->capacity;
    r->full = r->head == r->tail;
    r->check.sum = adler(r->check.sum, &byte, 1);
    return RING_OK;
}

ring_status ring_get(ring *r, uint8_t *byte)
{
    if (!r->full && r->head == r->tail)
        return RING_EMPTY;
    *byte = r->data[r->tail];
    r->tail = (r->tail + 1) % r->capacity;
    r->full = false;
    return RING_OK;
}

int main(int argc, char **argv)
{
    ring *r = ring_new(CAPACITY);
    ring_status status = RING_OK;
    const char *text = argc > 1 ? argv[1] : "hello\n";
    size_t length = strlen(text);

    for (size_t i = 0; i < MIN(length, CAPACITY) && status == RING_OK; ++i)
        status = ring_put(r, (uint8_t)text[i]);
    TRACE("put %zu bytes: %s\n", ring_count(r), NAMES[status]);

    switch (status) {
    case RING_OK:
        break;
    case RING_FULL:
        fputs("truncated\n", stderr);
        /* fall through */
    default:
        goto out;
    }
    do {
        uint8_t byte = '\0';
        status = ring_get(r, &byte);
        if (status == RING_OK)
            putchar(byte);
    } while (status == RING_OK);
out:
    printf("checksum %08x\n", (unsigned)r->check.sum);
    ring_free(r);
    return EXIT_SUCCESS;
}
