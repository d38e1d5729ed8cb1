# The program of the tarball (tools/dist.sh). Libraries that come as archives are linked into it, so
# that only what is used of them is there; the others are found in ../lib, where tools/dist.sh puts
# them. libcurl and OpenSSL stay shared: their archives need more than the distribution has.

# link_archive(LIBRARY ARCHIVE TARGET): the archive takes the shared library's place. What that library
# needs itself is offered by path, since the links for developers may not be there; what the program
# then does not use is dropped (--as-needed).
function(link_archive library archive target)
    find_library(archive_${library} NAMES ${archive} REQUIRED)
    find_library(shared_${library} NAMES ${library} lib${library} REQUIRED)
    execute_process(COMMAND ldd ${shared_${library}} OUTPUT_VARIABLE listed COMMAND_ERROR_IS_FATAL ANY)
    string(REGEX MATCHALL "=> /[^ ]+" needed "${listed}")
    list(TRANSFORM needed REPLACE "^=> " "")
    list(FILTER needed EXCLUDE REGEX "/lib(c|m)\\\\.so")
    set_property(TARGET PkgConfig::${target} PROPERTY INTERFACE_LINK_LIBRARIES
        ${archive_${library}} ${needed})
endfunction()

link_archive(uv libuv_a.a libuv)
link_archive(sqlite3 libsqlite3.a sqlite3)
link_archive(jansson libjansson.a jansson)
link_archive(archive libarchive.a libarchive)

# libarchive's writers stand in one table. We write tar; that of xar, never called, would bring 35 MB
# of libxml2 and ICU with it.
add_link_options(-Wl,--defsym=archive_write_set_format_xar=abort)
# DT_RPATH and not DT_RUNPATH: it also holds for what the libraries need.
add_link_options(-Wl,--as-needed -Wl,--disable-new-dtags)
set(CMAKE_BUILD_RPATH "\$ORIGIN/../lib")
