
/* SPDX-License-Identifier: MIT */


#include "ngx_http_dockline.h"


static ngx_int_t ngx_http_dockline_tunnel_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_dockline_bytes_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_dockline_duration_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_dockline_close_reason_variable(
    ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t data);

static char *ngx_http_dockline_idle_timeout(ngx_conf_t *cf,
    ngx_command_t *cmd, void *conf);

static ngx_int_t ngx_http_dockline_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_dockline_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_dockline_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_dockline_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_dockline_create_srv_conf(ngx_conf_t *cf);
static void *ngx_http_dockline_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_dockline_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);


static ngx_command_t  ngx_http_dockline_commands[] = {

    { ngx_string("dockline"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_conf_set_flag_slot,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_dockline_loc_conf_t, enable),
      NULL },

    { ngx_string("dockline_idle_timeout"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_dockline_idle_timeout,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_dockline_module_ctx = {
    ngx_http_dockline_preconfiguration,    /* preconfiguration */
    ngx_http_dockline_postconfiguration,   /* postconfiguration */

    ngx_http_dockline_create_main_conf,    /* create main configuration */
    ngx_http_dockline_init_main_conf,      /* init main configuration */

    ngx_http_dockline_create_srv_conf,     /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_dockline_create_loc_conf,     /* create location configuration */
    ngx_http_dockline_merge_loc_conf       /* merge location configuration */
};


ngx_module_t  ngx_http_dockline_module = {
    NGX_MODULE_V1,
    &ngx_http_dockline_module_ctx,         /* module context */
    ngx_http_dockline_commands,            /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_dockline_tunnel_init_process, /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_dockline_tunnel_exit_process, /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_variable_t  ngx_http_dockline_vars[] = {

    { ngx_string("dockline_tunnel"), NULL,
      ngx_http_dockline_tunnel_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_bytes_up"), NULL,
      ngx_http_dockline_bytes_variable,
      offsetof(dockline_relay_stats, bytes_up), NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_bytes_down"), NULL,
      ngx_http_dockline_bytes_variable,
      offsetof(dockline_relay_stats, bytes_down),
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_duration"), NULL,
      ngx_http_dockline_duration_variable, 0, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("dockline_close_reason"), NULL,
      ngx_http_dockline_close_reason_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    /* sent to the upstream; not for use in configuration files */

    { ngx_string("dockline_proxy_upgrade"), NULL,
      ngx_http_dockline_proxy_upgrade_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_NOHASH, 0 },

    { ngx_string("dockline_proxy_connection"), NULL,
      ngx_http_dockline_proxy_connection_variable, 0,
      NGX_HTTP_VAR_NOCACHEABLE|NGX_HTTP_VAR_NOHASH, 0 },

      ngx_http_null_variable
};


static ngx_int_t
ngx_http_dockline_tunnel_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t                *name;
    ngx_http_dockline_ctx_t  *ctx;

    static ngx_str_t  names[] = {
        ngx_string("none"),
        ngx_string("upgrade"),
        ngx_string("hijack")
    };

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_dockline_module);

    name = &names[ctx ? ctx->tunnel : NGX_HTTP_DOCKLINE_NONE];

    v->len = name->len;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = name->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_bytes_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                   *p;
    uint64_t                  bytes;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_dockline_module);

    if (ctx == NULL || !ctx->tunnel) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_http_dockline_tunnel_stats(ctx);

    bytes = *(uint64_t *) ((char *) &ctx->stats + data);

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%uL", bytes) - p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_duration_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                   *p;
    ngx_msec_t                ms;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_dockline_module);

    if (ctx == NULL || !ctx->tunnel) {
        v->not_found = 1;
        return NGX_OK;
    }

    ms = ctx->relay ? ngx_current_msec - ctx->start : ctx->duration;

    p = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (p == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(p, "%T.%03M", (time_t) ms / 1000, ms % 1000) - p;
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = p;

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_close_reason_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                   *name;
    ngx_http_dockline_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_dockline_module);

    if (ctx == NULL || !ctx->tunnel || ctx->relay) {
        v->not_found = 1;
        return NGX_OK;
    }

    name = (u_char *) dockline_close_reason_name(ctx->stats.close_reason);

    v->len = ngx_strlen(name);
    v->valid = 1;
    v->no_cacheable = 0;
    v->not_found = 0;
    v->data = name;

    return NGX_OK;
}


static char *
ngx_http_dockline_idle_timeout(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_dockline_loc_conf_t *dlcf = conf;

    ngx_str_t   *value;
    ngx_msec_t   ms;

    if (dlcf->idle_timeout != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        dlcf->idle_timeout = 0;
        return NGX_CONF_OK;
    }

    ms = ngx_parse_time(&value[1], 0);

    if (ms == (ngx_msec_t) NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" in \"%V\" directive, "
                           "it must be a time or \"off\"",
                           &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    if (ms > NGX_HTTP_DOCKLINE_FOREVER) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "value \"%V\" in \"%V\" directive must not "
                           "exceed 24 days", &value[1], &cmd->name);
        return NGX_CONF_ERROR;
    }

    dlcf->idle_timeout = ms;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_dockline_preconfiguration(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    if (dockline_abi_version() != DOCKLINE_ABI_VERSION) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the dockline module was built for ABI version "
                           "%ui of the library, but %s has version %ui; "
                           "rebuild the module",
                           (ngx_uint_t) DOCKLINE_ABI_VERSION,
                           dockline_version_string(),
                           (ngx_uint_t) dockline_abi_version());
        return NGX_ERROR;
    }

    for (v = ngx_http_dockline_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_dockline_postconfiguration(ngx_conf_t *cf)
{
    ngx_http_handler_pt        *h;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_dockline_precontent_handler;

    if (ngx_http_dockline_proposal_init(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_dockline_buffers_init(cf) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_dockline_host_init(cf);
}


static void *
ngx_http_dockline_create_main_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_dockline_main_conf_t));
}


static char *
ngx_http_dockline_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_dockline_main_conf_t *dmcf = conf;

    ngx_http_dockline_loc_conf_t  *dlcf;

    /*
     * This is called before the first merge with the context of http{},
     * the only moment to see the settings of the proxy module on this level.
     */

    dlcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_dockline_module);

    if (ngx_http_dockline_proxy_init(cf, dmcf, dlcf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_conf_init_value(dlcf->enable, 0);

    return NGX_CONF_OK;
}


static void *
ngx_http_dockline_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_dockline_srv_conf_t));
}


static void *
ngx_http_dockline_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_dockline_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_dockline_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     conf->connection = NULL;
     *     conf->headers = NULL;
     *     conf->http_version = 0;
     *     conf->request_buffering = 0;
     *     conf->cache = 0;
     *     conf->store = 0;
     *     conf->injected = 0;
     *     conf->read_timeout = 0;
     *     conf->send_timeout = 0;
     *     conf->following = NULL;
     *     conf->uploading = NULL;
     *     conf->switching = NULL;
     */

    conf->enable = NGX_CONF_UNSET;
    conf->idle_timeout = NGX_CONF_UNSET_MSEC;
    conf->buffer_size = NGX_CONF_UNSET_SIZE;
    conf->pool = cf->pool;

    return conf;
}


static char *
ngx_http_dockline_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_dockline_loc_conf_t *prev = parent;
    ngx_http_dockline_loc_conf_t *conf = child;

    ngx_flag_t                      enable;
    ngx_http_core_loc_conf_t       *clcf;
    ngx_http_dockline_srv_conf_t   *dscf;
    ngx_http_dockline_main_conf_t  *dmcf;

    dmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_dockline_module);
    dscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_dockline_module);
    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    enable = conf->enable;

    ngx_conf_merge_value(conf->enable, prev->enable, 0);
    ngx_conf_merge_msec_value(conf->idle_timeout, prev->idle_timeout, 0);

    if (enable == 1
        && clcf->name.len
        && clcf->handler == NULL
        && clcf->locations == NULL)
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "\"dockline on\" has no effect in location \"%V\", "
                           "which has no \"proxy_pass\"", &clcf->name);
    }

    if (conf->enable) {
        dscf->enable = 1;

        /* build contexts and images are larger than the default of 1m */

        if (clcf->client_max_body_size == 1 * 1024 * 1024) {
            clcf->client_max_body_size = 0;
        }
    }

    return ngx_http_dockline_proxy_merge(cf, dmcf, prev, conf);
}
