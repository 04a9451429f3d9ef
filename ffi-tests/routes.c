/* SPDX-License-Identifier: MIT
 * Requests are looked up in a file that is replaced meanwhile. */
#include <errno.h>
#include <unistd.h>

#include "sockets.h"
#include "snapshot.h"

static char dir[] = "/tmp/dockline-routes-XXXXXX";
static char path[64], other_path[64];

static const struct snapshot_route routes[] = {
    {"web./", "web", {{"192.0.2.1:80", 1, 1}, {"[2001:db8::1]:8080", 1, 1}, {NULL, 0, 0}}},
    {"shop.example.com/api", "shop.example.com/api", {{"192.0.2.2:80", 2, 2}, {"192.0.2.3:80", 1, 3}, {NULL, 0, 0}}},
    {".example.net/", "*.example.net", {{"192.0.2.4:80", 1, 0}, {NULL, 0, 0}, {NULL, 0, 0}}},
    {"eight./", "eight", {{"[::]:1", 1, 3}, {"[::]:2", 1, 3}, {"[::]:3", 1, 3}, {"[::]:4", 1, 3}, {"[::]:5", 1, 3},
                          {"[::]:6", 1, 3}, {"[::]:7", 1, 3}, {"[::]:8", 1, 3}, {NULL, 0, 0}}},
    {"nine./", "nine", {{"[::]:1", 1, 3}, {"[::]:2", 1, 3}, {"[::]:3", 1, 3}, {"[::]:4", 1, 3}, {"[::]:5", 1, 3},
                        {"[::]:6", 1, 3}, {"[::]:7", 1, 3}, {"[::]:8", 1, 3}, {"[::]:9", 1, 3}, {NULL, 0, 0}}},
};

/* Replaces the file, as a writer should. */
static void replace_with(const void *bytes, size_t len)
{
    FILE *file = fopen(other_path, "wb");
    REQUIRE(file != NULL && fwrite(bytes, 1, len, file) == len && fclose(file) == 0);
    REQUIRE(rename(other_path, path) == 0);
}

static void replace(uint64_t generation, size_t count)
{
    struct snapshot_bytes bytes;
    snapshot_write(&bytes, generation, routes, count);
    replace_with(bytes.bytes, bytes.len);
}

static int32_t change_at(dockline_routes *handle, uint64_t now)
{
    int32_t change = -1;
    REQUIRE_OK(dockline_routes_check(handle, now, &change));
    return change;
}

static dockline_routes_state state_of(dockline_routes *handle)
{
    dockline_routes_state state;
    REQUIRE_OK(dockline_routes_state_view(handle, &state, sizeof state));
    CHECK_EQ(state.reserved, 0);
    return state;
}

static dockline_routes_target find(dockline_routes *handle, const char *host, const char *request_path)
{
    dockline_routes_target target;
    AT("%s%s", host, request_path);
    REQUIRE_OK(dockline_routes_lookup(handle, dockline_str_of(host), dockline_str_of(request_path), &target,
                                      sizeof target));
    CHECK_EQ(is_absent(target.upstream), target.result != DOCKLINE_ROUTES_FOUND);
    CHECK(target.other_count == 0 || target.result == DOCKLINE_ROUTES_FOUND);
    return target;
}

static dockline_routes *routes_open(uint64_t check_ms)
{
    dockline_routes_options options;
    dockline_routes *handle = NULL;
    memset(&options, 0, sizeof options);
    options.path = dockline_str_of(path);
    options.check_ms = check_ms;
    REQUIRE_OK(dockline_routes_new(&options, sizeof options, &handle));
    memset(&options, 0x55, sizeof options); /* it was copied */
    return handle;
}

static void requests_find_their_targets(void)
{
    dockline_routes *handle = routes_open(0);
    replace(7, 5);
    CHECK_EQ(find(handle, "web", "/").result, DOCKLINE_ROUTES_NOT_LOADED);
    CHECK_EQ(change_at(handle, 0), DOCKLINE_ROUTES_READ);
    dockline_routes_state state = state_of(handle);
    AT("state");
    CHECK_EQ(state.generation, 7);
    CHECK_EQ(state.count, 5);
    CHECK_EQ(state.loaded, 1);
    CHECK(is_absent(state.problem));

    dockline_routes_target target = find(handle, "shop.EXAMPLE.com.:80", "/api/x?y");
    CHECK_EQ(target.result, DOCKLINE_ROUTES_FOUND);
    CHECK(is_text(target.upstream, "192.0.2.3:80"));
    CHECK(is_text(target.name, "shop.example.com/api"));
    CHECK_EQ(target.prefix_len, 4);
    CHECK_EQ(target.strip, 1);
    CHECK_EQ(target.other_count, 0);

    target = find(handle, "www.example.net", "/");
    CHECK_EQ(target.result, DOCKLINE_ROUTES_NO_TARGET);
    CHECK(is_text(target.name, "*.example.net"));

    CHECK_EQ(find(handle, "shop.example.com", "/").result, DOCKLINE_ROUTES_UNKNOWN);
    CHECK_EQ(find(handle, "nobody", "/").result, DOCKLINE_ROUTES_UNKNOWN);
    CHECK_EQ(find(handle, "not a host", "/").result, DOCKLINE_ROUTES_UNKNOWN);
    target = find(handle, NULL, NULL);
    CHECK_EQ(target.result, DOCKLINE_ROUTES_UNKNOWN);
    CHECK(is_absent(target.name));
    CHECK_EQ(target.prefix_len, 0);

    int first = 0, second = 0;
    for (int i = 0; i < 10; i++) {
        target = find(handle, "web.apps.example.org", "/");
        first += is_text(target.upstream, "192.0.2.1:80");
        second += is_text(target.upstream, "[2001:db8::1]:8080");
        CHECK_EQ(target.strip, 0);
        REQUIRE(target.other_count == 1);
        int other_is_first = is_text(target.others[0], "192.0.2.1:80");
        int other_is_second = is_text(target.others[0], "[2001:db8::1]:8080");
        CHECK_EQ(other_is_first + other_is_second, 1);
        CHECK_EQ(other_is_second, is_text(target.upstream, "192.0.2.1:80"));
    }
    CHECK_EQ(first, 5);
    CHECK_EQ(second, 5);

    CHECK_EQ(find(handle, "eight", "/").other_count, 7);
    target = find(handle, "nine", "/");
    CHECK_EQ(target.other_count, 7);
    for (size_t i = 0; i < target.other_count; i++) {
        const char *before = (i == 0 ? target.upstream : target.others[i - 1]).data;
        CHECK_EQ(target.others[i].data[5], before[5] == '9' ? '1' : before[5] + 1);
    }
    CHECK_EQ(target.strip, 0); /* it has no prefix */
    dockline_routes_free(handle);
}

static void a_file_that_was_replaced_is_read(void)
{
    dockline_routes *handle = routes_open(1000);
    REQUIRE(unlink(path) == 0);
    AT("no file");
    CHECK_EQ(change_at(handle, 5000), DOCKLINE_ROUTES_FAILED);
    CHECK_EQ(change_at(handle, 6000), DOCKLINE_ROUTES_UNCHANGED);
    dockline_routes_state state = state_of(handle);
    char expected[128];
    snprintf(expected, sizeof expected, "%s (os error %d)", strerror(ENOENT), ENOENT);
    CHECK(is_text(state.problem, expected));
    CHECK_EQ(state.loaded, 0);
    CHECK_EQ(find(handle, "web", "/").result, DOCKLINE_ROUTES_NOT_LOADED);

    AT("a file");
    replace(1, 1);
    CHECK_EQ(change_at(handle, 6999), DOCKLINE_ROUTES_UNCHANGED);
    CHECK_EQ(change_at(handle, 7000), DOCKLINE_ROUTES_READ);
    CHECK(is_absent(state_of(handle).problem));
    CHECK_EQ(find(handle, "web", "/").result, DOCKLINE_ROUTES_FOUND);

    AT("a broken file");
    replace_with("DLROUTES", 8);
    CHECK_EQ(change_at(handle, 8000), DOCKLINE_ROUTES_FAILED);
    CHECK_EQ(change_at(handle, 9000), DOCKLINE_ROUTES_UNCHANGED);
    CHECK(!is_absent(state_of(handle).problem));
    CHECK_EQ(state_of(handle).generation, 1);
    CHECK_EQ(find(handle, "web", "/").result, DOCKLINE_ROUTES_FOUND);

    AT("another file");
    replace(2, 3);
    CHECK_EQ(change_at(handle, 10000), DOCKLINE_ROUTES_READ);
    CHECK_EQ(state_of(handle).generation, 2);
    CHECK_EQ(state_of(handle).count, 3);
    dockline_routes_free(handle);
}

int main(void)
{
    int descriptors = open_descriptors();
    REQUIRE(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/routes", dir);
    snprintf(other_path, sizeof other_path, "%s/new", dir);
    requests_find_their_targets();
    a_file_that_was_replaced_is_read();
    CHECK(unlink(path) == 0 && rmdir(dir) == 0);
    AT("descriptors");
    CHECK_EQ(open_descriptors(), descriptors);
    return check_summary("routes");
}
