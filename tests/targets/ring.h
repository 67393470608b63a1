/* A ring of io_uring for one request at a time or a few, without a library. */
#ifndef SAMEPAGE_RING_H
#define SAMEPAGE_RING_H

#include "target.h"
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define RING_ENTRIES 8

struct ring {
    int fd;
    unsigned char *rings; /* NULL: not open */
    size_t bytes;
    struct io_uring_sqe *entries;
    struct io_uring_params parameters;
};

static inline void ring_open(struct ring *ring)
{
    if (ring->rings)
        return;
    ring->fd = (int)syscall(SYS_io_uring_setup, RING_ENTRIES, &ring->parameters);
    if (ring->fd < 0)
        fail("io_uring_setup");
    const struct io_uring_params *made = &ring->parameters;
    size_t submissions = made->sq_off.array + RING_ENTRIES * sizeof(unsigned);
    size_t completions = made->cq_off.cqes + made->cq_entries * sizeof(struct io_uring_cqe);
    ring->bytes = submissions > completions ? submissions : completions;
    ring->rings = mmap(NULL, ring->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQ_RING);
    ring->entries = mmap(NULL, RING_ENTRIES * sizeof *ring->entries, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring->fd, IORING_OFF_SQES);
    if (ring->rings == MAP_FAILED || ring->entries == MAP_FAILED)
        fail("mmap of the ring");
}

static inline void ring_close(struct ring *ring)
{
    munmap(ring->rings, ring->bytes);
    munmap(ring->entries, RING_ENTRIES * sizeof *ring->entries);
    close(ring->fd);
    ring->rings = NULL;
}

static inline void ring_register(struct ring *ring, const struct iovec *buffers, unsigned count)
{
    if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, buffers, count))
        fail("IORING_REGISTER_BUFFERS");
}

static inline void ring_unregister(struct ring *ring)
{
    if (syscall(SYS_io_uring_register, ring->fd, IORING_UNREGISTER_BUFFERS, NULL, 0))
        fail("IORING_UNREGISTER_BUFFERS");
}

static inline void ring_submit(struct ring *ring, struct io_uring_sqe request)
{
    const struct io_uring_params *made = &ring->parameters;
    unsigned mask = *(unsigned *)(ring->rings + made->sq_off.ring_mask);
    atomic_uint *tail = (atomic_uint *)(ring->rings + made->sq_off.tail);
    unsigned slot = atomic_load(tail) & mask;
    ring->entries[slot] = request;
    ((unsigned *)(ring->rings + made->sq_off.array))[slot] = slot;
    atomic_fetch_add(tail, 1);
    if (syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) != 1)
        fail("io_uring_enter");
}

static inline int ring_is_empty(struct ring *ring)
{
    atomic_uint *head = (atomic_uint *)(ring->rings + ring->parameters.cq_off.head);
    atomic_uint *tail = (atomic_uint *)(ring->rings + ring->parameters.cq_off.tail);
    return atomic_load(head) == atomic_load(tail);
}

/* Result of a completion that is there, and whose it is. */
static inline int ring_take(struct ring *ring, uint64_t *user_data)
{
    atomic_uint *head = (atomic_uint *)(ring->rings + ring->parameters.cq_off.head);
    unsigned mask = *(unsigned *)(ring->rings + ring->parameters.cq_off.ring_mask);
    const struct io_uring_cqe *entry = (struct io_uring_cqe *)(ring->rings + ring->parameters.cq_off.cqes) + (atomic_load(head) & mask);
    int result = entry->res;
    *user_data = entry->user_data;
    atomic_fetch_add(head, 1);
    return result;
}

/* Result of the next completion, and whose it is. */
static inline int ring_wait(struct ring *ring, uint64_t *user_data)
{
    while (ring_is_empty(ring))
        if (syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) == -1 && errno != EINTR)
            fail("io_uring_enter");
    return ring_take(ring, user_data);
}

#endif
