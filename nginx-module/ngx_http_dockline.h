
/* SPDX-License-Identifier: MIT */


#ifndef _NGX_HTTP_DOCKLINE_H_INCLUDED_
#define _NGX_HTTP_DOCKLINE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <dockline.h>


/*
 * Without it, ngx_connection_t has no "ssl" here, while it may have in nginx,
 * and TLS connections would look like plain ones.
 */
#if !(NGX_HTTP_SSL)
#error the dockline module requires --with-http_ssl_module
#endif


/* the longest timeout epoll_wait() can be passed, less a margin: 24 days */
#define NGX_HTTP_DOCKLINE_FOREVER  (ngx_msec_t) 2073600000

/* the body of a request that takes its connection over, usually 30 bytes */
#define NGX_HTTP_DOCKLINE_SWITCH_BODY  (1024 * 1024)

/* headers as large as accepted by the gateway and as sent by Docker */
#define NGX_HTTP_DOCKLINE_REQUEST_BUFFER   (192 * 1024)
#define NGX_HTTP_DOCKLINE_RESPONSE_BUFFER  (64 * 1024)
#define NGX_HTTP_DOCKLINE_RESPONSE_NEEDED  (16 * 1024)

#define NGX_HTTP_DOCKLINE_NONE     0
#define NGX_HTTP_DOCKLINE_UPGRADE  1
#define NGX_HTTP_DOCKLINE_HIJACK   2


typedef struct {
    /* offsets in the configuration of the proxy module */
    size_t                             headers;
    size_t                             http_version;
    size_t                             request_buffering;
    size_t                             upstream;

    ngx_http_header_handler_pt         process_host;
} ngx_http_dockline_main_conf_t;


typedef struct {
    ngx_uint_t                         enable;  /* in any location */
    ngx_uint_t                         buffers;  /* already checked */
} ngx_http_dockline_srv_conf_t;


typedef struct {
    ngx_flag_t                         enable;
    ngx_msec_t                         idle_timeout;

    ngx_http_complex_value_t          *connection;

    /* what the proxy module would use on this level without the module */
    ngx_array_t                       *headers;     /* of ngx_keyval_t */
    ngx_uint_t                         http_version;
    ngx_flag_t                         request_buffering;
    ngx_flag_t                         cache;
    ngx_flag_t                         store;
    size_t                             buffer_size;

    unsigned                           injected:1;

    /* set in this location or in an enclosing one */
    unsigned                           read_timeout:1;
    unsigned                           send_timeout:1;

    /* copies of the location: for requests whose response may pause, */
    void                             **following;

    /* for requests whose body may pause as well, */
    void                             **uploading;

    /* and for requests that take their connection over */
    void                             **switching;

    ngx_pool_t                        *pool;
} ngx_http_dockline_loc_conf_t;


typedef struct {
    dockline_request_facts             facts;
    dockline_request_plan              plan;

    ngx_http_request_t                *request;

    /* before the response */
    ngx_int_t                          status;
    ngx_http_event_handler_pt          client_read_handler;
    ngx_http_event_handler_pt          client_write_handler;
    ngx_atomic_uint_t                  ended;  /* number of the connection */
    ngx_int_t                        (*process_header)(ngx_http_request_t *r);
    ngx_int_t                        (*reinit_request)(ngx_http_request_t *r);

    /* the tunnel */
    dockline_relay                    *relay;
    ngx_http_event_handler_pt          read_event_handler;
    ngx_http_event_handler_pt          write_event_handler;
    ngx_http_upstream_handler_pt       upstream_read_handler;
    ngx_http_upstream_handler_pt       upstream_write_handler;
    uint64_t                           prefilled;
    uint32_t                           interest;
    ngx_msec_t                         start;
    ngx_msec_t                         duration;
    dockline_relay_stats               stats;
    u_char                             dummy[1];

    unsigned                           armed:1;
    unsigned                           watched:1;
    unsigned                           client_ended:1;
    unsigned                           takeover:1;
    unsigned                           tunnel:2;
    unsigned                           plain_client:1;
    unsigned                           plain_upstream:1;
    unsigned                           header_flushed:1;
} ngx_http_dockline_ctx_t;


typedef struct ngx_http_dockline_routes_file_s
    ngx_http_dockline_routes_file_t;


/* where a request goes */

typedef struct {
    ngx_http_dockline_routes_file_t   *file;
    ngx_int_t                          status;
    ngx_str_t                          upstream;
    ngx_str_t                          name;
    ngx_str_t                          prefix;  /* which is removed */
    ngx_str_t                          uri;

    /* the upstream, and those tried if it cannot be reached */
    ngx_str_t                         *targets;
    ngx_uint_t                         ntargets;
} ngx_http_dockline_routes_ctx_t;


static ngx_inline dockline_str
ngx_http_dockline_str(ngx_str_t *s)
{
    dockline_str  str;

    str.data = (const char *) s->data;
    str.len = s->len;

    return str;
}


ngx_int_t ngx_http_dockline_proxy_init(ngx_conf_t *cf,
    ngx_http_dockline_main_conf_t *dmcf, ngx_http_dockline_loc_conf_t *dlcf);
char *ngx_http_dockline_proxy_merge(ngx_conf_t *cf,
    ngx_http_dockline_main_conf_t *dmcf, ngx_http_dockline_loc_conf_t *prev,
    ngx_http_dockline_loc_conf_t *conf);

ngx_int_t ngx_http_dockline_host_init(ngx_conf_t *cf);

ngx_int_t ngx_http_dockline_buffers_init(ngx_conf_t *cf);

ngx_int_t ngx_http_dockline_proposal_init(ngx_conf_t *cf);
ngx_int_t ngx_http_dockline_rewritten_handler(ngx_http_request_t *r);

ngx_int_t ngx_http_dockline_precontent_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_dockline_proxy_upgrade_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
ngx_int_t ngx_http_dockline_proxy_connection_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

ngx_int_t ngx_http_dockline_facts(ngx_http_request_t *r,
    dockline_request_facts *facts);
ngx_int_t ngx_http_dockline_make_plan(ngx_http_request_t *r,
    dockline_request_facts *facts, dockline_request_plan *plan);
ngx_int_t ngx_http_dockline_find_header(ngx_http_request_t *r,
    ngx_list_t *headers, char *name, ngx_str_t *value);

void ngx_http_dockline_watch(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
void ngx_http_dockline_unwatch(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
void ngx_http_dockline_stop_reading(ngx_http_request_t *r);

ngx_int_t ngx_http_dockline_tunnel_init_process(ngx_cycle_t *cycle);
void ngx_http_dockline_tunnel_exit_process(ngx_cycle_t *cycle);
ngx_uint_t ngx_http_dockline_tunnel_available(void);
ngx_int_t ngx_http_dockline_tunnel_start(ngx_http_request_t *r,
    ngx_http_dockline_ctx_t *ctx);
void ngx_http_dockline_tunnel_stats(ngx_http_dockline_ctx_t *ctx);

ngx_uint_t ngx_http_dockline_endpoint(ngx_connection_t *c,
    dockline_endpoint *endpoint);
int32_t ngx_http_dockline_shutdown(void *data);
ngx_uint_t ngx_http_dockline_gone(ngx_connection_t *c);

ngx_http_dockline_routes_ctx_t *ngx_http_dockline_routes_find(
    ngx_http_request_t *r);

char *ngx_http_dockline_targets(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


extern ngx_module_t  ngx_http_dockline_module;
extern ngx_module_t  ngx_http_dockline_filter_module;


#endif /* _NGX_HTTP_DOCKLINE_H_INCLUDED_ */
