
/* SPDX-License-Identifier: MIT */


/*
 * The targets of a route as the servers of an upstream group, so that
 * proxy_next_upstream applies.  They are those of the request: the group has
 * no state, and no server of its own.
 */


#include "ngx_http_dockline.h"


typedef struct {
    ngx_addr_t   *addrs;
    ngx_uint_t    naddrs;
    ngx_uint_t    next;
} ngx_http_dockline_targets_peer_data_t;


static ngx_int_t ngx_http_dockline_targets_init(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_dockline_targets_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_dockline_targets_get_peer(ngx_peer_connection_t *pc,
    void *data);
static void ngx_http_dockline_targets_free_peer(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
static ngx_int_t ngx_http_dockline_targets_set_session(
    ngx_peer_connection_t *pc, void *data);
static void ngx_http_dockline_targets_save_session(ngx_peer_connection_t *pc,
    void *data);


char *
ngx_http_dockline_targets(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_upstream_server_t    *server;
    ngx_http_upstream_srv_conf_t  *uscf;

    uscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_upstream_module);

    if (uscf->peer.init_upstream == ngx_http_dockline_targets_init) {
        return "is duplicate";
    }

    if (uscf->peer.init_upstream) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "load balancing method redefined");
    }

    /* nginx wants one */

    server = ngx_array_push(uscf->servers);
    if (server == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(server, sizeof(ngx_http_upstream_server_t));

    uscf->flags = NGX_HTTP_UPSTREAM_CREATE;
    uscf->peer.init_upstream = ngx_http_dockline_targets_init;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_dockline_targets_init(ngx_conf_t *cf, ngx_http_upstream_srv_conf_t *us)
{
    char  *other;

    other = us->servers->nelts > 1 ? "server" : NULL;

#if (NGX_HTTP_UPSTREAM_ZONE)
    if (us->shm_zone) {
        other = "zone";
    }
#endif

    if (other) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"%s\" cannot be used with \"dockline_targets\" "
                      "in upstream \"%V\" in %s:%ui",
                      other, &us->host, us->file_name, us->line);
        return NGX_ERROR;
    }

    us->peer.init = ngx_http_dockline_targets_init_peer;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_targets_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t                              i;
    ngx_http_upstream_t                    *u;
    ngx_http_dockline_routes_ctx_t         *ctx;
    ngx_http_dockline_targets_peer_data_t  *tp;

    ctx = ngx_http_dockline_routes_find(r);

    if (ctx == NULL || ctx->ntargets == 0) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "no targets for upstream \"%V\": a location that "
                      "passes requests to it has to have \"dockline_routes\"",
                      &us->host);
        return NGX_ERROR;
    }

    tp = ngx_palloc(r->pool, sizeof(ngx_http_dockline_targets_peer_data_t));
    if (tp == NULL) {
        return NGX_ERROR;
    }

    tp->next = 0;
    tp->naddrs = ctx->ntargets;

    tp->addrs = ngx_pcalloc(r->pool, tp->naddrs * sizeof(ngx_addr_t));
    if (tp->addrs == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < tp->naddrs; i++) {
        if (ngx_parse_addr_port(r->pool, &tp->addrs[i], ctx->targets[i].data,
                                ctx->targets[i].len)
            != NGX_OK)
        {
            ngx_log_error(NGX_LOG_ALERT, r->connection->log, 0,
                          "no address: \"%V\"", &ctx->targets[i]);
            return NGX_ERROR;
        }

        tp->addrs[i].name = ctx->targets[i];
    }

    u = r->upstream;

    u->peer.data = tp;
    u->peer.get = ngx_http_dockline_targets_get_peer;
    u->peer.free = ngx_http_dockline_targets_free_peer;
    u->peer.tries = tp->naddrs;

    /* sessions belong to a server that stays */

    u->peer.set_session = ngx_http_dockline_targets_set_session;
    u->peer.save_session = ngx_http_dockline_targets_save_session;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_targets_get_peer(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_dockline_targets_peer_data_t *tp = data;

    ngx_addr_t  *addr;

    /* nginx counts the tries, and adds one if a cached connection was dead */

    addr = &tp->addrs[tp->next++ % tp->naddrs];

    pc->cached = 0;
    pc->connection = NULL;
    pc->sockaddr = addr->sockaddr;
    pc->socklen = addr->socklen;
    pc->name = &addr->name;

    return NGX_OK;
}


static void
ngx_http_dockline_targets_free_peer(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    if (pc->tries) {
        pc->tries--;
    }
}


static ngx_int_t
ngx_http_dockline_targets_set_session(ngx_peer_connection_t *pc, void *data)
{
    return NGX_OK;
}


static void
ngx_http_dockline_targets_save_session(ngx_peer_connection_t *pc, void *data)
{
}
