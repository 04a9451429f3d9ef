// SPDX-License-Identifier: MIT
// The header in C++17, and handles that free themselves.
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "sockets.h"

namespace {

struct Free {
    void operator()(dockline_worker *worker) const noexcept { dockline_worker_free(worker); }
    void operator()(dockline_relay *relay) const noexcept { dockline_relay_free(relay); }
    void operator()(dockline_conn *conn) const noexcept { dockline_conn_free(conn); }
    void operator()(dockline_engine *engine) const noexcept { dockline_engine_free(engine); }
    void operator()(dockline_upstream *upstream) const noexcept { dockline_upstream_free(upstream); }
    void operator()(dockline_route *route) const noexcept { dockline_route_free(route); }
    void operator()(dockline_routes *routes) const noexcept { dockline_routes_free(routes); }
};
using Worker = std::unique_ptr<dockline_worker, Free>;
using Relay = std::unique_ptr<dockline_relay, Free>;

struct Socket {
    int fd = -1;
    explicit Socket(int descriptor) : fd(descriptor) {}
    Socket(const Socket &) = delete;
    Socket &operator=(const Socket &) = delete;
    ~Socket() { close(fd); }
};

// Structs are what C says they are: no constructor, and {} is all zero.
static_assert(std::is_trivial_v<dockline_endpoint> && std::is_standard_layout_v<dockline_endpoint>);
static_assert(std::is_trivial_v<dockline_relay_stats> && std::is_standard_layout_v<dockline_relay_stats>);
static_assert(std::is_trivial_v<dockline_conn_options> && std::is_standard_layout_v<dockline_engine_options>);
static_assert(std::is_same_v<dockline_status, std::int32_t>);
static_assert(DOCKLINE_NO_DEADLINE == UINT64_MAX);

Worker make_worker(std::vector<std::string> &log)
{
    dockline_worker_options options{};
    options.log_user = &log;
    options.log = [](void *user, std::int32_t, dockline_str text) {
        static_cast<std::vector<std::string> *>(user)->emplace_back(text.data, text.len);
    };
    dockline_worker *worker = nullptr;
    REQUIRE(dockline_worker_new(&options, sizeof options, &worker) == DOCKLINE_OK);
    return Worker(worker);
}

// A side in memory: what it gives, and what it got.
struct Memory {
    std::string_view input;
    std::string output;
    bool ended = false;

    dockline_endpoint endpoint()
    {
        dockline_endpoint side{};
        side.fd = -1;
        side.user = this;
        side.read = [](void *user, void *buf, std::size_t len) -> std::int64_t {
            auto &self = *static_cast<Memory *>(user);
            const std::size_t n = self.input.copy(static_cast<char *>(buf), len);
            self.input.remove_prefix(n);
            return static_cast<std::int64_t>(n);
        };
        side.write = [](void *user, const void *buf, std::size_t len) -> std::int64_t {
            static_cast<Memory *>(user)->output.append(static_cast<const char *>(buf), len);
            return static_cast<std::int64_t>(len);
        };
        side.shutdown_write = [](void *user) -> std::int32_t {
            static_cast<Memory *>(user)->ended = true;
            return 0;
        };
        return side;
    }
};

void a_tunnel_between_a_socket_and_memory()
{
    int ends[2];
    socket_pair(0, ends);
    const Socket client(ends[0]), down(ends[1]);
    std::vector<std::string> log;
    Memory daemon;
    const std::string answer(100000, 'a');
    daemon.input = answer;

    Worker worker = make_worker(log);
    dockline_endpoint downstream{};
    downstream.fd = down.fd;
    const dockline_endpoint upstream = daemon.endpoint();
    dockline_relay *made = nullptr;
    REQUIRE(dockline_relay_new(worker.get(), nullptr, 0, &downstream, &upstream, sizeof upstream, 0, &made)
            == DOCKLINE_OK);
    Relay relay(made);
    worker.reset();

    REQUIRE(send(client.fd, "question", 8, 0) == 8);
    REQUIRE(shutdown(client.fd, SHUT_WR) == 0);
    std::string got;
    char chunk[4096];
    dockline_relay_wants wants{};
    for (std::uint32_t ready = 0;;) {
        REQUIRE(dockline_relay_pump(relay.get(), ready, 0, &wants, sizeof wants) == DOCKLINE_OK);
        ready = DOCKLINE_DOWNSTREAM_WRITE;
        wait_for(client.fd, POLLIN);
        const ssize_t n = recv(client.fd, chunk, sizeof chunk, 0);
        REQUIRE(n >= 0);
        if (n == 0)
            break;
        got.append(chunk, static_cast<std::size_t>(n));
    }
    CHECK_EQ(wants.state, DOCKLINE_RELAY_DONE);
    CHECK(got == answer);
    CHECK(daemon.output == "question");
    CHECK(daemon.ended);
    CHECK(log.empty());
}

void a_decision()
{
    const std::string_view target = "/exec/x/start";
    dockline_request_facts request{};
    request.method = DOCKLINE_STR("POST");
    request.target = {target.data(), target.size()};
    request.version = DOCKLINE_HTTP_11;
    dockline_response_facts response{};
    response.content_type = dockline_str_of("application/vnd.docker.raw-stream");
    response.status = 200;
    std::int32_t decision = -1;
    CHECK_EQ(dockline_hijack_decide(&request, sizeof request, &response, sizeof response, &decision), DOCKLINE_OK);
    CHECK_EQ(decision, DOCKLINE_DECISION_TUNNEL_RAW);
}

void an_exchange()
{
    const std::string_view request = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    dockline_conn *made = nullptr;
    REQUIRE_OK(dockline_conn_new(nullptr, 0, nullptr, 0, 0, &made));
    std::unique_ptr<dockline_conn, Free> conn(made);
    REQUIRE_OK(dockline_conn_feed(conn.get(), DOCKLINE_SIDE_DOWNSTREAM, request.data(), request.size(), 0));
    dockline_conn_event event{};
    REQUIRE_OK(dockline_conn_next_event(conn.get(), &event, sizeof event));
    CHECK_EQ(event.kind, DOCKLINE_EVENT_NEED_UPSTREAM);
    REQUIRE_OK(dockline_conn_upstream_ready(conn.get(), dockline_str_of(nullptr), 0, 0));
    const std::uint8_t *data = nullptr;
    std::size_t len = 0;
    REQUIRE_OK(dockline_conn_output_view(conn.get(), DOCKLINE_SIDE_UPSTREAM, &data, &len));
    CHECK(std::string_view(reinterpret_cast<const char *>(data), len) == request);
}

// Callbacks are lambdas without captures.
void an_engine()
{
    std::unique_ptr<dockline_route, Free> later;
    dockline_engine *made = nullptr;
    REQUIRE_OK(dockline_engine_new(nullptr, 0, &made));
    std::unique_ptr<dockline_engine, Free> engine(made);
    dockline_listener_options options{};
    options.route_user = &later;
    options.route = [](void *user, dockline_route *route) {
        dockline_route *made_later = nullptr;
        REQUIRE_OK(dockline_route_later(route, PATIENCE_MS, nullptr, 0, &made_later));
        static_cast<std::unique_ptr<dockline_route, Free> *>(user)->reset(made_later);
    };
    sockaddr_in address{};
    socklen_t len = sizeof address;
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const Socket client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    REQUIRE(bind(listener, reinterpret_cast<sockaddr *>(&address), len) == 0 && listen(listener, 1) == 0);
    REQUIRE(getsockname(listener, reinterpret_cast<sockaddr *>(&address), &len) == 0);
    REQUIRE_OK(dockline_engine_adopt_listener(engine.get(), listener, &options, sizeof options, nullptr));
    REQUIRE(connect(client.fd, reinterpret_cast<sockaddr *>(&address), len) == 0);
    const std::string_view request = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    REQUIRE(send(client.fd, request.data(), request.size(), 0) == static_cast<ssize_t>(request.size()));
    while (!later)
        REQUIRE_OK(dockline_engine_poll(engine.get(), PATIENCE_MS, nullptr));
    dockline_reply reply{};
    reply.status = 204;
    REQUIRE_OK(dockline_route_reply(later.get(), &reply, sizeof reply));
    REQUIRE_OK(dockline_route_decide(later.get()));
    later.reset();
    char answer[12];
    while (recv(client.fd, answer, sizeof answer, MSG_PEEK | MSG_DONTWAIT) < 0)
        REQUIRE_OK(dockline_engine_poll(engine.get(), PATIENCE_MS, nullptr));
    REQUIRE(recv(client.fd, answer, sizeof answer, MSG_WAITALL) == sizeof answer);
    CHECK(std::string_view(answer, sizeof answer) == "HTTP/1.1 204");
}

void routes_that_are_missing()
{
    dockline_routes_options options{};
    options.path = DOCKLINE_STR("/nonexistent/routes");
    dockline_routes *made = nullptr;
    REQUIRE_OK(dockline_routes_new(&options, sizeof options, &made));
    std::unique_ptr<dockline_routes, Free> routes(made);
    std::int32_t change = -1;
    REQUIRE_OK(dockline_routes_check(routes.get(), 0, &change));
    CHECK_EQ(change, DOCKLINE_ROUTES_FAILED);
    dockline_routes_target target{};
    REQUIRE_OK(dockline_routes_lookup(routes.get(), DOCKLINE_STR("web"), DOCKLINE_STR("/"), &target, sizeof target));
    CHECK_EQ(target.result, DOCKLINE_ROUTES_NOT_LOADED);
}

} // namespace

int main()
{
    const int descriptors = open_descriptors();
    a_tunnel_between_a_socket_and_memory();
    a_decision();
    an_exchange();
    an_engine();
    routes_that_are_missing();
    CHECK_EQ(open_descriptors(), descriptors);
    return check_summary("cplusplus");
}
