# libeestream, shared and static, from the layers; what `cmake --install` and cpack take along.
get_target_property(EES_LAYERS ees_engine EES_CLOSURE)
set(EES_LIBS PkgConfig::JANSSON PkgConfig::JPEG PkgConfig::URING Threads::Threads m ${CMAKE_DL_LIBS})

foreach(kind shared static)
  string(TOUPPER ${kind} KIND)
  add_library(eestream_${kind} ${KIND})
  foreach(layer ${EES_LAYERS})
    target_sources(eestream_${kind} PRIVATE $<TARGET_OBJECTS:${layer}>)
  endforeach()
  set_target_properties(eestream_${kind} PROPERTIES OUTPUT_NAME eestream EXPORT_NAME ${kind} LINKER_LANGUAGE C
                        VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_link_options(eestream_${kind} PRIVATE ${EES_LINK_FLAGS})
  target_include_directories(eestream_${kind} INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
target_link_libraries(eestream_shared PRIVATE ${EES_LIBS})
target_link_options(eestream_shared PRIVATE -Wl,--no-undefined)
target_link_libraries(eestream_static PUBLIC ${EES_LIBS})
add_library(eestream::eestream ALIAS eestream_shared)

include(CMakePackageConfigHelpers)
install(TARGETS eestream_shared eestream_static EXPORT eestreamTargets)
install(DIRECTORY include/eestream TYPE INCLUDE)
install(EXPORT eestreamTargets NAMESPACE eestream:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/eestream)
configure_package_config_file(cmake/eestreamConfig.cmake.in ${PROJECT_BINARY_DIR}/eestreamConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/eestream)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/eestreamConfigVersion.cmake COMPATIBILITY SameMinorVersion)
# The .pc file finds its prefix from its own place, so that an installed tree may be moved.
file(RELATIVE_PATH pc_to_prefix /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
set(EES_PC_PREFIX "\${pcfiledir}/${pc_to_prefix}")
configure_file(cmake/eestream.pc.in ${PROJECT_BINARY_DIR}/eestream.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/eestreamConfig.cmake ${PROJECT_BINARY_DIR}/eestreamConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/eestream)
install(FILES ${PROJECT_BINARY_DIR}/eestream.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
