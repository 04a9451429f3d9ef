/* SPDX-License-Identifier: MIT
 * A program that was not linked with the library loads it, uses it, unloads it, and does so again.
 *
 *     dlopen PATH-OF-LIBDOCKLINE.SO
 */
#include <dlfcn.h>

#include "sockets.h"

/* What a host needs for a tunnel. The header gives the types, the loader the functions. */
static struct {
    uint32_t (*abi_version)(void);
    const char *(*status_name)(dockline_status);
    dockline_status (*worker_new)(const dockline_worker_options *, size_t, dockline_worker **);
    void (*worker_free)(dockline_worker *);
    dockline_status (*relay_new)(dockline_worker *, const dockline_relay_options *, size_t, const dockline_endpoint *,
                                 const dockline_endpoint *, size_t, uint64_t, dockline_relay **);
    dockline_status (*relay_pump)(dockline_relay *, uint32_t, uint64_t, dockline_relay_wants *, size_t);
    dockline_status (*relay_stats_get)(const dockline_relay *, dockline_relay_stats *, size_t);
    void (*relay_free)(dockline_relay *);
} lib;

/* ISO C has no cast from void * to a function pointer; POSIX guarantees the same representation. */
static void look_up(void *library, const char *name, void *function, size_t size)
{
    void *symbol = dlsym(library, name);
    AT("%s", name);
    REQUIRE(symbol != NULL && size == sizeof symbol);
    memcpy(function, &symbol, size);
}

#define LOOK_UP(name) look_up(library, "dockline_" #name, &lib.name, sizeof lib.name)

static void run_a_tunnel(void)
{
    int descriptors = open_descriptors();
    int client[2], daemon[2];
    static uint8_t bytes[100000], got[100000];
    socket_pair(0, client);
    socket_pair(1, daemon);
    dockline_endpoint downstream, upstream;
    memset(&downstream, 0, sizeof downstream);
    memset(&upstream, 0, sizeof upstream);
    downstream.fd = client[1];
    upstream.fd = daemon[1];
    dockline_worker *worker = NULL;
    dockline_relay *relay = NULL;
    dockline_relay_wants wants;
    REQUIRE(lib.worker_new(NULL, 0, &worker) == DOCKLINE_OK);
    REQUIRE(lib.relay_new(worker, NULL, 0, &downstream, &upstream, sizeof upstream, 0, &relay) == DOCKLINE_OK);
    noise_fill(1, 0, bytes, sizeof bytes);
    REQUIRE(send(client[0], bytes, sizeof bytes, 0) == (ssize_t)sizeof bytes);
    REQUIRE(shutdown(client[0], SHUT_WR) == 0);
    REQUIRE(shutdown(daemon[0], SHUT_WR) == 0);
    size_t at = 0;
    do {
        REQUIRE(lib.relay_pump(relay, 0xff & ~(DOCKLINE_DOWNSTREAM_GONE | DOCKLINE_UPSTREAM_GONE), 0, &wants,
                               sizeof wants)
                == DOCKLINE_OK);
        wait_for(daemon[0], POLLIN);
        ssize_t n = recv(daemon[0], got + at, sizeof got - at, 0);
        REQUIRE(n >= 0);
        at += (size_t)n;
    } while (wants.state != DOCKLINE_RELAY_DONE || at < sizeof bytes);
    CHECK(memcmp(got, bytes, sizeof bytes) == 0);
    dockline_relay_stats stats;
    REQUIRE(lib.relay_stats_get(relay, &stats, sizeof stats) == DOCKLINE_OK);
    CHECK_EQ(stats.bytes_up, sizeof bytes);
    CHECK_EQ(stats.close_reason, DOCKLINE_CLOSE_EOF);
    lib.relay_free(relay);
    lib.worker_free(worker);
    for (int i = 0; i < 2; i++) {
        close(client[i]);
        close(daemon[i]);
    }
    CHECK_EQ(open_descriptors(), descriptors);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: dlopen LIBRARY\n");
        return 2;
    }
    CHECK(dlsym(RTLD_DEFAULT, "dockline_abi_version") == NULL);
    for (int round = 0; round < 3; round++) {
        void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            fprintf(stderr, "%s\n", dlerror());
        REQUIRE(library != NULL);
        LOOK_UP(abi_version);
        LOOK_UP(status_name);
        LOOK_UP(worker_new);
        LOOK_UP(worker_free);
        LOOK_UP(relay_new);
        LOOK_UP(relay_pump);
        LOOK_UP(relay_stats_get);
        LOOK_UP(relay_free);
        AT("round %d", round);
        CHECK_EQ(lib.abi_version(), DOCKLINE_ABI_VERSION);
        CHECK_STR(lib.status_name(DOCKLINE_E_BUSY), "DOCKLINE_E_BUSY");
        run_a_tunnel();
        CHECK_EQ(dlclose(library), 0);
    }
    return check_summary("dlopen");
}
