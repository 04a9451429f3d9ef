
/* SPDX-License-Identifier: MIT */


#include "ngx_http_dockline.h"


static void ngx_http_dockline_log_handler(void *user, int32_t level,
    dockline_str text);

static ngx_int_t ngx_http_dockline_relay_create(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
static void ngx_http_dockline_freeze(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);

static void ngx_http_dockline_read_downstream(ngx_http_request_t *r);
static void ngx_http_dockline_write_downstream(ngx_http_request_t *r);
static void ngx_http_dockline_read_upstream(ngx_http_request_t *r,
    ngx_http_upstream_t *u);
static void ngx_http_dockline_write_upstream(ngx_http_request_t *r,
    ngx_http_upstream_t *u);
static ngx_uint_t ngx_http_dockline_hangup(ngx_event_t *rev,
    ngx_uint_t plain);
static void ngx_http_dockline_process(ngx_http_request_t *r, uint32_t ready);
static ngx_int_t ngx_http_dockline_flush_header(ngx_http_request_t *r);
static int32_t ngx_http_dockline_pump(ngx_http_dockline_ctx_t *ctx,
    uint32_t ready, uint64_t *deadline);
static ngx_int_t ngx_http_dockline_handle_events(ngx_http_dockline_ctx_t *ctx);
static void ngx_http_dockline_finalize(ngx_http_dockline_ctx_t *ctx);
static void ngx_http_dockline_close(ngx_http_dockline_ctx_t *ctx);
static void ngx_http_dockline_cleanup(void *data);


static dockline_worker  *ngx_http_dockline_worker;
static ngx_log_t        *ngx_http_dockline_log;


ngx_int_t
ngx_http_dockline_tunnel_init_process(ngx_cycle_t *cycle)
{
    dockline_status          status;
    dockline_worker_options  options;

    ngx_http_dockline_log = cycle->log;

    ngx_memzero(&options, sizeof(dockline_worker_options));

    options.log = ngx_http_dockline_log_handler;

    status = dockline_worker_new(&options, sizeof(dockline_worker_options),
                                 &ngx_http_dockline_worker);

    if (status != DOCKLINE_OK) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "dockline worker could not be created: %s",
                      dockline_status_text(status));
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_dockline_tunnel_exit_process(ngx_cycle_t *cycle)
{
    dockline_worker_free(ngx_http_dockline_worker);
    ngx_http_dockline_worker = NULL;
}


static void
ngx_http_dockline_log_handler(void *user, int32_t level, dockline_str text)
{
    ngx_uint_t  ngx_level;

    switch (level) {

    case DOCKLINE_LOG_ERROR:
        ngx_level = NGX_LOG_ERR;
        break;

    case DOCKLINE_LOG_WARN:
        ngx_level = NGX_LOG_WARN;
        break;

    default:
        ngx_level = NGX_LOG_INFO;
    }

    ngx_log_error(ngx_level, ngx_http_dockline_log, 0, "dockline: %*s",
                  text.len, text.data);
}


ngx_uint_t
ngx_http_dockline_tunnel_available(void)
{
    return ngx_http_dockline_worker != NULL;
}


ngx_int_t
ngx_http_dockline_tunnel_start(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_cleanup_t   *cln;
    ngx_http_upstream_t  *u;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_dockline_relay_create(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_dockline_cleanup;
    cln->data = ctx;

    ngx_http_dockline_freeze(r, ctx);

    u = r->upstream;

    ctx->read_event_handler = r->read_event_handler;
    ctx->write_event_handler = r->write_event_handler;
    ctx->upstream_read_handler = u->read_event_handler;
    ctx->upstream_write_handler = u->write_event_handler;

    r->read_event_handler = ngx_http_dockline_read_downstream;
    r->write_event_handler = ngx_http_dockline_write_downstream;
    u->read_event_handler = ngx_http_dockline_read_upstream;
    u->write_event_handler = ngx_http_dockline_write_upstream;

    /* the daemon may close while there is still input, this is not an error */

    u->peer.connection->log_error = NGX_ERROR_INFO;

    ctx->start = ngx_current_msec;

    ngx_post_event(r->connection->read, &ngx_posted_events);

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_relay_create(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx)
{
    ngx_buf_t                     *b;
    dockline_relay                *relay;
    dockline_status                status;
    dockline_endpoint              downstream, upstream;
    ngx_http_upstream_t           *u;
    dockline_relay_options         options;
    ngx_http_dockline_loc_conf_t  *dlcf;

    u = r->upstream;
    dlcf = ngx_http_get_module_loc_conf(r, ngx_http_dockline_module);

    ngx_memzero(&options, sizeof(dockline_relay_options));

    options.idle_ms = dlcf->idle_timeout;

    ctx->plain_client = ngx_http_dockline_endpoint(r->connection,
                                                   &downstream);
    ctx->plain_upstream = ngx_http_dockline_endpoint(u->peer.connection,
                                                     &upstream);

    status = dockline_relay_new(ngx_http_dockline_worker, &options,
                                sizeof(dockline_relay_options),
                                &downstream, &upstream,
                                sizeof(dockline_endpoint), ngx_current_msec,
                                &relay);

    if (status != DOCKLINE_OK) {
        goto failed;
    }

    ctx->prefilled = u->buffer.last - u->buffer.pos;

    status = dockline_relay_prefill(relay, DOCKLINE_SIDE_UPSTREAM,
                                    u->buffer.pos, (size_t) ctx->prefilled);

    if (status == DOCKLINE_OK) {
        b = r->header_in;
        status = dockline_relay_prefill(relay, DOCKLINE_SIDE_DOWNSTREAM,
                                        b->pos, b->last - b->pos);
    }

    if (status != DOCKLINE_OK) {
        dockline_relay_free(relay);
        goto failed;
    }

    b->pos = b->last;

    ctx->relay = relay;

    return NGX_OK;

failed:

    ngx_log_error(NGX_LOG_ALERT, r->connection->log,
                  (status == DOCKLINE_E_SYSTEM) ? ngx_errno : 0,
                  "dockline relay could not be created: %s",
                  dockline_status_text(status));

    return NGX_ERROR;
}


/*
 * The upstream module is going to process the upgraded connection once.
 * It moves nothing, as its buffers have neither data nor space, and does not
 * finalize, as no EOF is set.  An EOF will be seen again on the next read.
 */

static void
ngx_http_dockline_freeze(ngx_http_request_t *r, ngx_http_dockline_ctx_t *ctx)
{
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u->buffer.start) {
        (void) ngx_pfree(r->pool, u->buffer.start);
    }

    u->buffer.start = ctx->dummy;
    u->buffer.pos = ctx->dummy;
    u->buffer.last = ctx->dummy;
    u->buffer.end = ctx->dummy;

    u->from_client.start = ctx->dummy;
    u->from_client.pos = ctx->dummy;
    u->from_client.last = ctx->dummy;
    u->from_client.end = ctx->dummy;

    r->connection->read->eof = 0;
    u->peer.connection->read->eof = 0;
}


static void
ngx_http_dockline_read_downstream(ngx_http_request_t *r)
{
    uint32_t                  ready;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    ready = DOCKLINE_DOWNSTREAM_READ;

    if (ngx_http_dockline_hangup(r->connection->read, ctx->plain_client)) {
        ready |= DOCKLINE_DOWNSTREAM_HUP;
    }

    ngx_http_dockline_process(r, ready);
}


static void
ngx_http_dockline_write_downstream(ngx_http_request_t *r)
{
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    /* edge-triggered epoll reports this with every event */

    if (ctx->header_flushed && !(ctx->interest & DOCKLINE_DOWNSTREAM_WRITE)) {
        return;
    }

    ngx_http_dockline_process(r, DOCKLINE_DOWNSTREAM_WRITE);
}


static void
ngx_http_dockline_read_upstream(ngx_http_request_t *r, ngx_http_upstream_t *u)
{
    uint32_t                  ready;
    ngx_event_t              *rev;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    rev = u->peer.connection->read;

    if (rev->timedout) {
        rev->timedout = 0;
        ngx_http_dockline_process(r, 0);
        return;
    }

    ready = DOCKLINE_UPSTREAM_READ;

    if (ngx_http_dockline_hangup(rev, ctx->plain_upstream)) {
        ready |= DOCKLINE_UPSTREAM_HUP;
    }

    ngx_http_dockline_process(r, ready);
}


static void
ngx_http_dockline_write_upstream(ngx_http_request_t *r,
    ngx_http_upstream_t *u)
{
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    if (ctx->header_flushed && !(ctx->interest & DOCKLINE_UPSTREAM_WRITE)) {
        return;
    }

    ngx_http_dockline_process(r, DOCKLINE_UPSTREAM_WRITE);
}


static ngx_uint_t
ngx_http_dockline_hangup(ngx_event_t *rev, ngx_uint_t plain)
{
#if (NGX_HAVE_EPOLLRDHUP)

    /* close_notify causes no event and may have arrived with data */

    if (plain
        && (ngx_event_flags & NGX_USE_EPOLL_EVENT)
        && ngx_use_epoll_rdhup)
    {
        return rev->pending_eof;
    }

#endif

    return 1;
}


static void
ngx_http_dockline_process(ngx_http_request_t *r, uint32_t ready)
{
    int32_t                   state;
    uint64_t                  deadline;
    ngx_int_t                 rc;
    ngx_msec_t                timer;
    ngx_connection_t         *c, *pc;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_dockline_module);

    c = r->connection;
    pc = r->upstream->peer.connection;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "dockline process tunnel, ready:%uxD", ready);

    if (c->close || pc->close) {

        /* worker_shutdown_timeout */

        (void) dockline_relay_drain(ctx->relay, ngx_current_msec);

    } else if (!ctx->header_flushed) {

        rc = ngx_http_dockline_flush_header(r);

        if (rc == NGX_AGAIN) {
            return;
        }

        if (rc == NGX_ERROR) {
            ready |= DOCKLINE_DOWNSTREAM_GONE;
        }

        ctx->header_flushed = 1;
    }

    state = ngx_http_dockline_pump(ctx, ready, &deadline);

    if (state == DOCKLINE_RELAY_DONE
        || ngx_http_dockline_handle_events(ctx) != NGX_OK)
    {
        ngx_http_dockline_finalize(ctx);
        return;
    }

    /*
     * There is always a timer: a worker process that is shutting down waits
     * for timers, but not for connections.
     */

    timer = NGX_HTTP_DOCKLINE_FOREVER;

    if (deadline != DOCKLINE_NO_DEADLINE) {
        timer = (deadline > ngx_current_msec)
                ? (ngx_msec_t) (deadline - ngx_current_msec) : 0;
        timer = ngx_min(timer, NGX_HTTP_DOCKLINE_FOREVER);
    }

    ngx_add_timer(pc->read, timer);

    if (state == DOCKLINE_RELAY_YIELD) {
        ngx_post_event(c->read, &ngx_posted_next_events);
    }
}


/* data of the tunnel must not be sent before the response header */

static ngx_int_t
ngx_http_dockline_flush_header(ngx_http_request_t *r)
{
    off_t              sent;
    ngx_connection_t  *c, *pc;

    c = r->connection;
    pc = r->upstream->peer.connection;

    /* "send_timeout" and similar do not apply to tunnels */

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    if (pc->write->timer_set) {
        ngx_del_timer(pc->write);
    }

    ngx_add_timer(pc->read, NGX_HTTP_DOCKLINE_FOREVER);

    if (r->out || c->buffered) {

        do {
            sent = c->sent;

            /* with a small "sendfile_max_chunk" it waits for a timer */

            c->write->delayed = 0;

            if (ngx_http_output_filter(r, NULL) == NGX_ERROR) {
                return NGX_ERROR;
            }

        } while ((r->out || c->buffered) && c->sent > sent);

        c->write->delayed = 0;

        if (c->write->timer_set) {
            ngx_del_timer(c->write);
        }

        if (r->out || c->buffered) {

            /* poll() and similar methods would report this repeatedly */

            if (ngx_handle_read_event(c->read, 0) != NGX_OK
                || ngx_handle_write_event(c->write, 0) != NGX_OK
                || ngx_handle_read_event(pc->read, 0) != NGX_OK
                || ngx_handle_write_event(pc->write, 0) != NGX_OK)
            {
                return NGX_ERROR;
            }

            return NGX_AGAIN;
        }
    }

    if (c->ssl) {
        ngx_ssl_free_buffer(c);
    }

    if (pc->ssl) {
        ngx_ssl_free_buffer(pc);
    }

    return NGX_OK;
}


static int32_t
ngx_http_dockline_pump(ngx_http_dockline_ctx_t *ctx, uint32_t ready,
    uint64_t *deadline)
{
    ngx_log_t             *log;
    dockline_status        status;
    ngx_connection_t      *c, *pc;
    dockline_relay_wants   wants;

    c = ctx->request->connection;
    pc = ctx->request->upstream->peer.connection;

    if (c->write->ready) {
        ready |= DOCKLINE_DOWNSTREAM_WRITE;
    }

    if (pc->write->ready) {
        ready |= DOCKLINE_UPSTREAM_WRITE;
    }

    log = ngx_http_dockline_log;
    ngx_http_dockline_log = c->log;

    status = dockline_relay_pump(ctx->relay, ready, ngx_current_msec, &wants,
                                 sizeof(dockline_relay_wants));

    ngx_http_dockline_log = log;

    if (status != DOCKLINE_OK) {
        ngx_log_error(NGX_LOG_ALERT, c->log, 0, "dockline relay failed: %s",
                      dockline_status_text(status));
        c->error = 1;
        return DOCKLINE_RELAY_DONE;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, c->log, 0,
                   "dockline tunnel state:%D interest:%uxD deadline:%uL",
                   wants.state, wants.interest, wants.deadline_ms);

    ctx->interest = wants.interest;
    *deadline = wants.deadline_ms;

    return wants.state;
}


static ngx_int_t
ngx_http_dockline_handle_events(ngx_http_dockline_ctx_t *ctx)
{
    ngx_connection_t  *c, *pc;

    c = ctx->request->connection;
    pc = ctx->request->upstream->peer.connection;

    if (ctx->plain_client) {
        c->read->ready = !(ctx->interest & DOCKLINE_DOWNSTREAM_READ);
        c->read->available = -1;
        c->write->ready = !(ctx->interest & DOCKLINE_DOWNSTREAM_WRITE);
    }

    if (ctx->plain_upstream) {
        pc->read->ready = !(ctx->interest & DOCKLINE_UPSTREAM_READ);
        pc->read->available = -1;
        pc->write->ready = !(ctx->interest & DOCKLINE_UPSTREAM_WRITE);
    }

    if (ngx_handle_read_event(c->read, 0) != NGX_OK
        || ngx_handle_write_event(c->write, 0) != NGX_OK
        || ngx_handle_read_event(pc->read, 0) != NGX_OK
        || ngx_handle_write_event(pc->write, 0) != NGX_OK)
    {
        c->error = 1;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/*
 * Lets the upstream module finalize the request as it does after an upgraded
 * connection has ended.  The request may be freed after that.
 */

static void
ngx_http_dockline_finalize(ngx_http_dockline_ctx_t *ctx)
{
    ngx_connection_t     *c, *pc;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = ctx->request;
    u = r->upstream;
    c = r->connection;
    pc = u->peer.connection;

    ngx_http_dockline_close(ctx);

    r->read_event_handler = ctx->read_event_handler;
    r->write_event_handler = ctx->write_event_handler;
    u->read_event_handler = ctx->upstream_read_handler;
    u->write_event_handler = ctx->upstream_write_handler;

    /* the relay has waited for the client, no lingering close is needed */

    r->lingering_close = 0;
    c->read->eof = 1;

    pc->read->eof = 1;
    pc->read->timedout = 0;

    u->read_event_handler(r, u);
}


/* before the access log is written: saves the stats and frees the relay */

static void
ngx_http_dockline_close(ngx_http_dockline_ctx_t *ctx)
{
    ngx_uint_t             level;
    ngx_connection_t      *c, *pc;
    ngx_http_upstream_t   *u;
    dockline_relay_stats  *stats;

    u = ctx->request->upstream;
    c = ctx->request->connection;
    pc = u->peer.connection;

    ngx_http_dockline_tunnel_stats(ctx);

    dockline_relay_free(ctx->relay);
    ctx->relay = NULL;

    ctx->duration = ngx_current_msec - ctx->start;

    stats = &ctx->stats;

    if (stats->close_reason == DOCKLINE_CLOSE_NONE) {
        stats->close_reason = DOCKLINE_CLOSE_KILLED;
    }

    u->state->bytes_received += stats->received_down - ctx->prefilled;

    if (ctx->plain_client) {
        c->sent += stats->bytes_down;
    }

    if (ctx->plain_upstream) {
        pc->sent += stats->bytes_up;
    }

    /* a truncated stream must not look complete: no close_notify */

    if (stats->abort_sides & DOCKLINE_SIDE_DOWNSTREAM) {
        c->error = 1;
    }

    if ((stats->abort_sides & DOCKLINE_SIDE_UPSTREAM) && pc->ssl) {
        pc->ssl->no_send_shutdown = 1;
    }

    switch (stats->close_reason) {

    case DOCKLINE_CLOSE_UPSTREAM_RESET:
        level = NGX_LOG_ERR;
        break;

    case DOCKLINE_CLOSE_KILLED:
        level = NGX_LOG_WARN;
        break;

    default:
        level = NGX_LOG_INFO;
    }

    ngx_log_error(level, c->log, stats->error_number,
                  "dockline tunnel closed: %s, bytes up/down: %uL/%uL",
                  dockline_close_reason_name(stats->close_reason),
                  stats->bytes_up, stats->bytes_down);
}


void
ngx_http_dockline_tunnel_stats(ngx_http_dockline_ctx_t *ctx)
{
    if (ctx->relay) {
        (void) dockline_relay_stats_get(ctx->relay, &ctx->stats,
                                        sizeof(dockline_relay_stats));
    }
}


static void
ngx_http_dockline_cleanup(void *data)
{
    ngx_http_dockline_ctx_t *ctx = data;

    uint64_t  deadline;

    if (ctx->relay == NULL) {
        return;
    }

    /* nginx terminates the request itself */

    if (ctx->request->connection->close) {
        (void) dockline_relay_drain(ctx->relay, ngx_current_msec);

    } else {
        (void) dockline_relay_kill(ctx->relay);
    }

    (void) ngx_http_dockline_pump(ctx, 0, &deadline);

    ngx_http_dockline_close(ctx);
}
