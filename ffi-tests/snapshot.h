/* SPDX-License-Identifier: MIT
 * Writes a snapshot of routes, as docs/ROUTES.md says. */
#ifndef SNAPSHOT_H
#define SNAPSHOT_H

#include "check.h"

struct snapshot_target {
    const char *address;
    uint16_t weight;
    uint8_t flags; /* 1: live, 2: without the prefix */
};

/* Targets end with one that has no address. */
struct snapshot_route {
    const char *text, *name;
    struct snapshot_target targets[10];
};

struct snapshot_bytes {
    uint8_t bytes[4096];
    size_t len;
};

static inline uint64_t rotate_left(uint64_t word, int bits)
{
    return word << bits | word >> (64 - bits);
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1], v[1] = rotate_left(v[1], 13) ^ v[0], v[0] = rotate_left(v[0], 32);
    v[2] += v[3], v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = rotate_left(v[1], 17) ^ v[2], v[2] = rotate_left(v[2], 32);
}

static inline uint64_t siphash13(const uint64_t key[2], const char *text, size_t len)
{
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d, key[0] ^ 0x6c7967656e657261,
                     key[1] ^ 0x7465646279746573};
    for (size_t at = 0; at <= len; at += 8) {
        uint64_t word = 0;
        for (size_t i = 0; i < 8 && at + i < len; i++)
            word |= (uint64_t)(uint8_t)text[at + i] << (8 * i);
        if (at + 8 > len)
            word |= (uint64_t)len << 56;
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    v[2] ^= 0xff;
    for (int i = 0; i < 3; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline void put_bytes(struct snapshot_bytes *out, const void *bytes, size_t len)
{
    REQUIRE(len <= sizeof out->bytes - out->len);
    memcpy(out->bytes + out->len, bytes, len);
    out->len += len;
}

static inline void put_number(struct snapshot_bytes *out, uint64_t number, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(number >> (8 * i));
        put_bytes(out, &byte, 1);
    }
}

static inline void put_text(struct snapshot_bytes *out, const void *text, size_t len)
{
    put_number(out, len, 2);
    put_bytes(out, text, len);
}

static inline void put_targets(struct snapshot_bytes *out, const struct snapshot_target *target)
{
    struct snapshot_bytes targets;
    targets.len = 0;
    for (; target->address != NULL; target++) {
        put_number(&targets, target->weight, 2);
        put_number(&targets, target->flags, 1);
        put_text(&targets, target->address, strlen(target->address));
    }
    put_text(out, targets.bytes, targets.len);
}

/* Routes of different hosts, in first-label mode, in one bucket. */
static inline void snapshot_write(struct snapshot_bytes *out, uint64_t generation,
                                  const struct snapshot_route *routes, size_t count)
{
    static const uint64_t key[2] = {0x0123456789abcdef, 42};
    struct snapshot_bytes index, records;
    uint64_t last = 0;
    index.len = records.len = out->len = 0;
    for (size_t written = 0; written < count; written++) {
        /* The next one by its hash. */
        const struct snapshot_route *next = NULL;
        uint64_t next_hash = UINT64_MAX;
        for (size_t i = 0; i < count; i++) {
            uint64_t hash = siphash13(key, routes[i].text, strcspn(routes[i].text, "/"));
            if ((written == 0 || hash > last) && hash < next_hash) {
                next = &routes[i];
                next_hash = hash;
            }
        }
        REQUIRE(next != NULL);
        put_number(&index, next_hash, 8);
        put_number(&index, records.len, 4);
        put_text(&records, next->text, strlen(next->text));
        put_text(&records, next->name, strlen(next->name));
        put_targets(&records, next->targets);
        last = next_hash;
    }
    put_bytes(out, "DLROUTES", 8);
    put_number(out, 1, 4); /* version */
    put_number(out, 1, 4); /* first-label mode */
    put_number(out, generation, 8);
    put_number(out, key[0], 8);
    put_number(out, key[1], 8);
    put_number(out, 64 + 8 + index.len + records.len, 4);
    put_number(out, 0, 4); /* no base domains */
    put_number(out, 0, 4); /* one bucket */
    put_number(out, count, 4);
    put_number(out, 0, 8);
    put_number(out, 0, 4); /* of the first route */
    put_number(out, count, 4);
    put_bytes(out, index.bytes, index.len);
    put_bytes(out, records.bytes, records.len);
}

#endif
