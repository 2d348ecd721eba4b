# How layers, and tests of one layer, are declared.
#
#   ees_layer(NAME SOURCES... [LINK ees_lower...] [LIBS PkgConfig::X...])
#   ees_test(NAME SOURCES... [LINK ees_layer...] [ONLY ees_layer...] [LIBS ...] [LABELS short|medium|long])
#     LINK brings the layers below along; ONLY does not, for tests that stand in for the layer below.
#
# A layer is an object library: a test links only its own layer and those below, so that a call upwards fails to link.
set(EES_COMPILE_FLAGS -std=gnu11 -Wall -Wextra -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter
    -fvisibility=hidden -fno-math-errno -fno-trapping-math)
if(EES_WERROR)
  list(APPEND EES_COMPILE_FLAGS -Werror)
endif()
set(EES_LINK_FLAGS -Wl,--as-needed)
if(EES_SANITIZE)
  list(APPEND EES_COMPILE_FLAGS -fsanitize=${EES_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  list(APPEND EES_LINK_FLAGS -fsanitize=${EES_SANITIZE})
endif()

function(ees_target_defaults target)
  target_compile_options(${target} PRIVATE ${EES_COMPILE_FLAGS})
  target_link_options(${target} PRIVATE ${EES_LINK_FLAGS})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/include)
  get_target_property(sources ${target} SOURCES)
  foreach(source ${sources})
    if(source MATCHES "\\.c$" AND NOT IS_ABSOLUTE ${source})
      file(RELATIVE_PATH path ${PROJECT_SOURCE_DIR} ${CMAKE_CURRENT_SOURCE_DIR}/${source})
      set_property(SOURCE ${source} APPEND PROPERTY COMPILE_DEFINITIONS EES_SOURCE_FILE="${path}")
    endif()
  endforeach()
endfunction()

function(ees_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;LIBS" ${ARGN})
  add_library(${name} OBJECT ${arg_SOURCES})
  set_target_properties(${name} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  ees_target_defaults(${name})
  target_link_libraries(${name} PUBLIC ${arg_LIBS} Threads::Threads)
  set(closure ${name})
  foreach(lower ${arg_LINK})
    get_target_property(lower_closure ${lower} EES_CLOSURE)
    list(APPEND closure ${lower_closure})
  endforeach()
  list(REMOVE_DUPLICATES closure)
  set_target_properties(${name} PROPERTIES EES_CLOSURE "${closure}")
endfunction()

# For a hang only: under emulation on a busy machine the longest test needs minutes.
set(EES_TEST_TIMEOUT_S 1800)

function(ees_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK;ONLY;LIBS;LABELS;ARGS" ${ARGN})
  if(NOT arg_LABELS)
    set(arg_LABELS short)
  endif()
  add_executable(${name} ${arg_SOURCES})
  ees_target_defaults(${name})
  set(objects ${arg_ONLY})
  foreach(layer ${arg_LINK})
    get_target_property(layer_closure ${layer} EES_CLOSURE)
    list(APPEND objects ${layer_closure})
  endforeach()
  list(REMOVE_DUPLICATES objects)
  target_link_libraries(${name} PRIVATE ${objects} PkgConfig::CMOCKA ${arg_LIBS} m ${CMAKE_DL_LIBS})
  target_compile_definitions(${name} PRIVATE EES_SHARED_DATA="${PROJECT_SOURCE_DIR}/../shared/data"
                             EES_PROJECT_DIR="${PROJECT_SOURCE_DIR}" EES_BUILD_DIR="${PROJECT_BINARY_DIR}")
  if(CMAKE_CROSSCOMPILING) # instructions are emulated: their time means nothing
    target_compile_definitions(${name} PRIVATE EES_EMULATED)
  endif()
  add_test(NAME ${name} COMMAND ${name} ${arg_ARGS})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${EES_TEST_TIMEOUT_S} LABELS "${arg_LABELS}" SKIP_RETURN_CODE 77)
  if(EES_SANITIZE) # asking for too much memory is what some tests do
    set_tests_properties(${name} PROPERTIES
      ENVIRONMENT "TSAN_OPTIONS=allocator_may_return_null=1;ASAN_OPTIONS=allocator_may_return_null=1")
  endif()
  add_dependencies(tests_built ${name})
endfunction()
